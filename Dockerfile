FROM python:3.11-slim AS build
COPY requirements.lock /tmp/
# Into a folder of its own: the image that runs has no pip, and no cache.
RUN pip install --no-cache-dir --no-compile --require-hashes --target /packages -r /tmp/requirements.lock

FROM python:3.11-slim
ENV PYTHONPATH=/app:/packages PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY --from=build /packages /packages
COPY operator/cutover /app/cutover
# Byte code is made here, as nothing can be written where this runs.
RUN PYTHONDONTWRITEBYTECODE= python -m compileall -q /packages /app
USER 10001:10001
EXPOSE 8080 9090
ENTRYPOINT ["python", "-m", "cutover.main"]
