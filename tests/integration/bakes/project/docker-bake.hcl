# A program of several stages: validation that leaves nothing, files for a release, images that share a tag function.
variable "REPO" {
  default = "registry.example.com/project"
}
variable "BASE" {
  default = "busybox"
}
variable "VERSION" {
  default = "dev"
}
variable "DESTDIR" {
  default = "./bin"
}

group "default" {
  targets = ["image"]
}
group "validate" {
  targets = ["lint", "test"]
}
group "release" {
  targets = ["binaries", "image", "image-debug"]
}

target "_base" {
  args = {
    BASE    = BASE
    VERSION = VERSION
  }
  # As a CI would give them to every target.
  tags = ["${REPO}:${VERSION}"]
}
target "lint" {
  inherits = ["_base"]
  target   = "lint"
  output   = ["type=cacheonly"]
}
target "test" {
  inherits = ["_base"]
  target   = "test"
  output   = ["type=local,dest=${DESTDIR}/reports"]
}
target "binaries" {
  inherits  = ["_base"]
  target    = "binaries"
  output    = ["${DESTDIR}/build"]
  platforms = ["linux/amd64", "linux/arm64"]
}
target "image" {
  inherits  = ["_base"]
  platforms = ["linux/amd64", "linux/arm64"]
  output    = ["type=image,push=true"]
}
target "image-debug" {
  inherits = ["image"]
  target   = "debug"
  tags     = ["${REPO}:${VERSION}-debug"]
}
