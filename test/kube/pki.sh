# shellcheck shell=bash
# The cluster's keys and certificates. Sourced, never run.

new_key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }

# certificate NAME SUBJECT USAGE [ALTERNATIVE NAMES]
certificate() {
  new_key "$1.key"
  printf 'keyUsage=digitalSignature\nextendedKeyUsage=%s\n%s\n' "$3" "${4:+subjectAltName=$4}" >"$1.ext"
  openssl req -new -key "$1.key" -subj "$2" 2>/dev/null |
    openssl x509 -req -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile "$1.ext" -out "$1.crt" 2>/dev/null
}

# kubeconfig NAME SUBJECT
kubeconfig() {
  certificate "$1" "$2" clientAuth
  cat >"$1.conf" <<END
apiVersion: v1
kind: Config
current-context: kube
clusters: [{name: kube, cluster: {server: "https://$NODE_IP:6443", certificate-authority-data: $(base64 -w0 ca.crt)}}]
users: [{name: me, user: {client-certificate-data: $(base64 -w0 "$1.crt"), client-key-data: $(base64 -w0 "$1.key")}}]
contexts: [{name: kube, context: {cluster: kube, user: me}}]
END
}

make_pki() {
  local names="DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
  mkdir -p "$KUBE_STATE/pki"
  cd "$KUBE_STATE/pki" || return
  new_key ca.key
  openssl req -x509 -new -key ca.key -subj /CN=certctl-kube-ca -days 30 -out ca.crt 2>/dev/null
  openssl genrsa -out sa.key 2048 2>/dev/null
  openssl rsa -in sa.key -pubout -out sa.pub 2>/dev/null
  certificate apiserver /CN=kube-apiserver serverAuth \
    "$names,DNS:kubernetes.default.svc.cluster.local,IP:127.0.0.1,IP:$API_IP,IP:$NODE_IP"
  certificate apiserver-kubelet /O=system:masters/CN=kube-apiserver-kubelet-client clientAuth
  certificate front-proxy /CN=front-proxy-client clientAuth
  certificate kubelet-server "/O=system:nodes/CN=system:node:$NODE" serverAuth "DNS:$NODE,IP:$NODE_IP"
  kubeconfig admin /O=system:masters/CN=admin
  kubeconfig controller-manager /CN=system:kube-controller-manager
  kubeconfig scheduler /CN=system:kube-scheduler
  kubeconfig kube-proxy /CN=system:kube-proxy
  kubeconfig kubelet "/O=system:nodes/CN=system:node:$NODE"
}
