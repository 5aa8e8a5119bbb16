# The two images: docker buildx build --target operator|sidecar -t NAME .
#
# One static program each, on nothing: no shell, no package that ages. The build stage is made for the platform it runs
# on, so --platform linux/amd64,linux/arm64 gives both. `make images` writes the same last stages as archives, without
# Docker: it reads them from here, hence they keep to FROM scratch, COPY --from=build, ENV, LABEL, USER and ENTRYPOINT.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN make programs && mkdir /out && cp dist/remotemount-operator dist/remotemount-sidecar /out/

FROM scratch AS operator
LABEL org.opencontainers.image.title="remotemount-operator" \
      org.opencontainers.image.description="Turns RemoteMounts into configuration, sidecars and status" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/remotemount-operator /usr/local/bin/remotemount-operator
ENV PATH=/usr/local/bin
USER 65532:65532
ENTRYPOINT ["remotemount-operator"]
CMD ["run"]

FROM scratch AS sidecar
LABEL org.opencontainers.image.title="remotemount-sidecar" \
      org.opencontainers.image.description="Mounts buckets into a pod: lazy metadata, reads and deletes" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/remotemount-sidecar /usr/local/bin/remotemount-sidecar
ENV PATH=/usr/local/bin
USER 65532:65532
ENTRYPOINT ["remotemount-sidecar"]
