# A runtime in several versions and variants, as official images have them: tags are computed.
variable "REPO" {
  default = "registry.example.com/runtime"
}
variable "BASE" {
  default = "busybox"
}
variable "LATEST" {
  default = "3.2.0"
}

function "minor" {
  params = [version]
  result = join(".", slice(split(".", version), 0, 2))
}
function "names" {
  params = [version, variant]
  result = concat(
    ["${REPO}:${version}-${variant}", "${REPO}:${minor(version)}-${variant}"],
    variant == "full" ? ["${REPO}:${version}"] : [],
    variant == "full" && version == LATEST ? ["${REPO}:latest"] : [],
  )
}

group "default" {
  targets = ["runtime"]
}
target "runtime" {
  name = "runtime-${replace(item.version, ".", "-")}-${item.variant}"
  matrix = {
    item = [
      { version = "3.1.4", variant = "full" },
      { version = "3.2.0", variant = "full" },
      { version = "3.2.0", variant = "slim" },
    ]
  }
  target    = item.variant
  args      = { BASE = BASE, VERSION = item.version }
  tags      = names(item.version, item.variant)
  platforms = ["linux/amd64", "linux/arm64"]
}
