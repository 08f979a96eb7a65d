#!/usr/bin/env bash
# Installs the operator into a cluster of kind, with Istio and Prometheus, and runs the chart's own test there.
#
# Needs Docker, kind, kubectl and Helm, and where Istio's and Prometheus' charts are: ISTIO_CHARTS and PROMETHEUS_CHARTS, each a
# Helm repository. Run it again to go on where it ended. It was written without Docker at hand and has not been run.
set -euo pipefail
cd "$(dirname "$0")/../.."

: "${ISTIO_CHARTS:?set it to the Helm repository of the charts of Istio}"
: "${PROMETHEUS_CHARTS:?set it to the Helm repository of the chart prometheus}"
CLUSTER="${CLUSTER:-cutover}"
IMAGE="${IMAGE:-cutover}"
TAG="${TAG:-kind}"

for tool in docker kind kubectl helm; do
  command -v "$tool" > /dev/null || { echo "make kind needs $tool" >&2; exit 1; }
done

if ! kind get clusters | grep --quiet --line-regexp "$CLUSTER"; then
  kind create cluster --name "$CLUSTER" --config hack/kind/cluster.yaml --wait 2m
fi
make image IMAGE="$IMAGE" TAG="$TAG"
kind load docker-image "$IMAGE:$TAG" --name "$CLUSTER"

install() { # release chart namespace [arguments of helm]
  local release="$1" chart="$2" namespace="$3"
  shift 3
  helm --kube-context "kind-$CLUSTER" upgrade --install "$release" "$chart" --namespace "$namespace" --create-namespace \
    --wait --timeout 5m "$@"
}

install istio-base base istio-system --repo "$ISTIO_CHARTS"
install istiod istiod istio-system --repo "$ISTIO_CHARTS"
install public gateway istio-ingress --repo "$ISTIO_CHARTS" --set service.type=NodePort \
  --set 'service.ports[0].name=http2,service.ports[0].port=80,service.ports[0].targetPort=80,service.ports[0].nodePort=30080'
# By default the chart scrapes Pods with the annotations that Istio gives its proxies.
install prometheus prometheus monitoring --repo "$PROMETHEUS_CHARTS" --set alertmanager.enabled=false \
  --set prometheus-pushgateway.enabled=false --set prometheus-node-exporter.enabled=false \
  --set kube-state-metrics.enabled=false --set server.persistentVolume.enabled=false

install cutover-crds charts/cutover-crds cutover-system
install cutover charts/cutover cutover-system --set image.repository="$IMAGE" --set image.tag="$TAG" \
  --set prometheus.url=http://prometheus-server.monitoring.svc
helm --kube-context "kind-$CLUSTER" test cutover --namespace cutover-system

echo "The operator acts in kind-$CLUSTER; its gateway is http://127.0.0.1:8080."
echo "Next: a Gateway, a Deployment with its Service, and a plan such as examples/minimal.yaml."
echo "To end it: kind delete cluster --name $CLUSTER"
