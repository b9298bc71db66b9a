FROM app
LABEL is=plugin
COPY plugin.Dockerfile /plugin
