# Pin the base by its digest: make image PYTHON_IMAGE=python:3.13-slim@sha256:...
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
COPY requirements.lock /tmp/
# Into a folder of its own, without the commands of packages. Nothing is built from source: a hash stands for what runs.
RUN python -m pip install --no-cache-dir --no-compile --require-hashes --only-binary :all: \
        --target /packages -r /tmp/requirements.lock \
 && rm -rf /packages/bin
COPY operator/cutover /app/cutover
# Byte code is made here, as nothing can be written where this runs, and without times, so that it is the same each time.
RUN python -m compileall -q --invalidation-mode unchecked-hash /packages /app
RUN mkdir /app/bin && cd /app/bin \
 && printf '#!/bin/sh\nexec python -m cutover.cli.backtest "$@"\n' > cutover-backtest \
 && printf '#!/bin/sh\nexec python -m cutover.drain.main "$@"\n' > cutover-drain \
 && chmod 755 cutover-*

FROM ${PYTHON_IMAGE}
# Nothing can be installed where this runs.
RUN python -m pip uninstall --yes pip && rm -rf /usr/local/lib/python3.*/ensurepip /root/.cache
# The user has no home, and the client of the API server asks for one.
ENV HOME=/tmp PYTHONPATH=/app:/packages PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PATH=/app/bin:$PATH
COPY --from=build /packages /packages
COPY --from=build /app /app
USER 10001:10001
EXPOSE 8080 9090
ENTRYPOINT ["python", "-m", "cutover.main"]
# What changes with each build comes last.
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="cutover" \
      org.opencontainers.image.description="Kubernetes operator for staged, evidence-gated Heroku-to-EKS cutovers" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
