# Functions of HCL and of the definition, and values of a second file that wins.
variable "REPO" {
  default = "registry.example.com/functions"
}
variable "BASE" {
  default = "busybox"
}
variable "REVISION" {
  default = ""
}
function "tag" {
  params         = [name]
  variadic_params = more
  result         = [for one in concat([name], more) : "${REPO}:${lower(one)}"]
}
target "default" {
  context = "src"
  args = {
    BASE  = BASE
    TOTAL = add(20, 22)
    STAMP = equal("", REVISION) ? "none" : substr(REVISION, 0, 7)
  }
  labels = {
    "org.opencontainers.image.revision" = REVISION
  }
  tags = tag("One", "Two")
}
