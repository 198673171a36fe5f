/** How many answers about a sample still differ from upstream's. It may only shrink. */
export const knownDifferences: Record<string, number> = {
  'apiregistration.k8s.io/v1 APIService v1.metrics.example.com': 64,
  'apps/v1 StatefulSet a': 248,
  'certificates.k8s.io/v1 CertificateSigningRequest a': 127,
  'certificates.k8s.io/v1 ClusterTrustBundle a': 26,
  'flowcontrol.apiserver.k8s.io/v1 FlowSchema a': 80,
  'flowcontrol.apiserver.k8s.io/v1 PriorityLevelConfiguration a': 24,
  'flowcontrol.apiserver.k8s.io/v1 PriorityLevelConfiguration b': 12,
  'policy/v1 PodDisruptionBudget a': 29,
  'policy/v1 PodDisruptionBudget b': 29,
  'scheduling.k8s.io/v1 PriorityClass a': 17,
  'v1 Pod full': 254,
  'v1 Pod plain': 39,
  'v1 Pod volumes': 63,
};
