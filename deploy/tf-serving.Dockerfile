# The exact model in stock TF Serving. Copy the pushed versions beside this file first:
#   mkdir -p models && cp -r runs/NAME/serving/NAME models/ && docker build -f deploy/tf-serving.Dockerfile --build-arg MODEL=NAME -t IMAGE .
FROM tensorflow/serving:2.16.1
ARG MODEL
ENV MODEL_NAME=${MODEL}
COPY models/${MODEL} /models/${MODEL}
EXPOSE 8500 8501
