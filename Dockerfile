# One static file and the certificates of authorities, and a user that is nobody.
#
#   docker build -t sockring .
#   docker run --security-opt seccomp=deploy/seccomp.json -p 8080:8080 -e ACCESS_TOKEN_SECRET -e API_KEY -e CORS_ORIGIN sockring
FROM rust:1.95.0-bookworm AS build
WORKDIR /sockring
COPY Cargo.toml Cargo.lock ./
COPY protocol protocol
COPY src src
COPY assets assets
COPY examples/echo.rs examples/echo.rs
COPY docs docs
COPY deploy/build-static deploy/build-static
RUN install -D "$(deploy/build-static)" /image/sockring

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /image/sockring /sockring
# Its own, which no other process of the host has.
USER 65532:65532
ENV SOCKRING_ENV=production
EXPOSE 8080
# It answers only where io_uring does: with Docker's own profile the server stops, and says so.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/sockring", "stats"]
ENTRYPOINT ["/sockring"]
CMD ["serve"]
