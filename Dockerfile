# cleftnet in a container. Not built yet: written where no container engine runs.
#
#   docker build -t cleftnet .                                             CPU
#   docker build -t cleftnet:cuda --build-arg DEVICE=cu126 .               CUDA 12.6
#   docker run --rm -v "$PWD:/data" cleftnet predict vnc-l3 A.hdf out.hdf
#   docker run --rm --gpus all -v "$PWD:/data" cleftnet:cuda doctor
#
# The same image for Apptainer, on clusters:
#   docker save cleftnet:cuda -o cleftnet.tar && apptainer build cleftnet.sif docker-archive://cleftnet.tar
#   apptainer run --nv --bind "$PWD:/data" cleftnet.sif predict vnc-l3 A.hdf out.hdf
ARG PYTHON=3.11
FROM python:${PYTHON}-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE LICENSE-WEIGHTS ./
COPY src src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim
# cpu, or the name of a CUDA build of PyTorch, such as cu126; its wheels bring the CUDA libraries
ARG DEVICE=cpu
COPY constraints.txt /tmp/constraints.txt
COPY --from=build /wheels /wheels
RUN sed -i '/^\(torch\|nvidia-\|cuda-\|triton\)/d' /tmp/constraints.txt \
    && pip install --no-cache-dir --index-url "https://download.pytorch.org/whl/${DEVICE}" "torch>=2.6" \
    && pip install --no-cache-dir -c /tmp/constraints.txt "$(ls /wheels/*.whl)[mrc,parquet,tensorboard,tiff,trees]" \
    && rm -r /wheels /tmp/constraints.txt
RUN useradd --create-home --uid 1000 cleftnet
USER cleftnet
WORKDIR /data
ENTRYPOINT ["cleftnet"]
CMD ["--help"]
