# Targets as contexts of others: one that is only there for that, one that says no platforms, one that is pushed itself.
variable "REPO" {
  default = "registry.example.com/links"
}
variable "BASE" {
  default = "busybox"
}

group "default" {
  targets = ["app", "plugin"]
}
target "base" {
  context   = "base"
  args      = { BASE = BASE }
  platforms = ["linux/amd64", "linux/arm64"]
}
target "assets" {
  context    = "base"
  dockerfile = "assets.Dockerfile"
}
target "app" {
  context = "app"
  contexts = {
    base   = "target:base"
    assets = "target:assets"
    notes  = "./base"
  }
  platforms = ["linux/amd64", "linux/arm64"]
  tags      = ["${REPO}:app"]
}
target "plugin" {
  context    = "app"
  dockerfile = "plugin.Dockerfile"
  contexts   = { app = "target:app" }
  platforms  = ["linux/amd64", "linux/arm64"]
  tags       = ["${REPO}:plugin"]
}
