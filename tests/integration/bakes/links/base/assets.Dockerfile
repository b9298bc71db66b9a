FROM scratch
COPY note /asset
