# The service on a CPU. Mount the runs, and give the token in a file or as POINTPEFT_TOKEN.
FROM python:3.11-slim
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE constraints.txt ./
COPY src src
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
        -c constraints.txt ".[serve,las]" "torch==2.13.0+cpu" \
    && rm -rf /src \
    && useradd --create-home --uid 10001 pointpeft
USER 10001
WORKDIR /home/pointpeft
EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz')"]
ENTRYPOINT ["pointpeft", "serve", "--host", "0.0.0.0"]
