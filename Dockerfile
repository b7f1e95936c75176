# The package on a bare Python. No GPU is needed; one is used where docker gives it (--gpus all).
# Needs: docker, 12 GB of disk, and a network while the image is built.
# Build: docker build -t vqa-lightning .
# Train: docker run vqa-lightning
# Test:  docker run vqa-lightning .venv/bin/python -m pytest
# Score: docker run -v "$PWD:/data" vqa-lightning .venv/bin/vqa-lightning predict --data.videos /data --output /data/scores.csv
FROM python:3.12-slim
RUN useradd --create-home viewer && install --directory --owner viewer /home/viewer/vqa-lightning
USER viewer
WORKDIR /home/viewer/vqa-lightning
COPY --chown=viewer . .
# The README's words, with what its tests need beside.
RUN python3 -m venv .venv && .venv/bin/pip install --no-cache-dir -e '.[test]'
CMD [".venv/bin/python", "-m", "vqa_lightning", "fit", "--config", "round.yaml"]
