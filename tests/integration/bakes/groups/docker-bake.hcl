# Groups of groups, inheritance from several targets, values that are overridden or removed.
variable "REPO" {
  default = "registry.example.com/groups"
}
variable "BASE" {
  default = "busybox"
}
variable "DEBUG" {
  default = false
}

group "default" {
  targets = ["services"]
}
group "services" {
  targets = ["api", "extras"]
}
group "extras" {
  targets = ["worker"]
}

target "_common" {
  args = {
    BASE  = BASE
    LEVEL = DEBUG ? "debug" : "info"
    UNSET = null
  }
  labels = {
    "org.opencontainers.image.vendor" = "Example"
  }
}
target "_platforms" {
  platforms = ["linux/amd64", "linux/arm64"]
}
target "api" {
  inherits = ["_common", "_platforms"]
  context  = "api"
  tags     = ["${REPO}:api", "${REPO}:api-latest"]
}
target "worker" {
  inherits          = ["api"]
  dockerfile-inline = <<EOT
ARG BASE
FROM $BASE
ARG LEVEL
LABEL level=$LEVEL
COPY app /worker
EOT
  args = {
    LEVEL = "trace"
  }
  tags = ["${REPO}:worker"]
}
