import { createHash, createHmac } from 'node:crypto';
import { resources } from '../api/generated/resources.ts';
import type { Draft, ResourceType } from '../api/object.ts';
import type { Client } from '../client/client.ts';
import { isAlreadyExists, isNotFound } from '../api/errors.ts';

interface Addon {
  type: ResourceType<any>;
  object: Draft<any>;
}

const rule = (apiGroups: string[], resourceNames: string[], verbs: string[]) => ({ apiGroups, resources: resourceNames, verbs });
const group = (name: string) => ({ kind: 'Group', name, apiGroup: 'rbac.authorization.k8s.io' });
const bind = (name: string, role: string, ...subjects: object[]): Addon => ({
  type: resources.clusterrolebindings,
  object: { metadata: { name }, roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: role }, subjects },
});

/** A detached JWS over the content with the token as the key, as `kubeadm join` verifies cluster-info. */
function signClusterInfo(content: string, tokenId: string, tokenSecret: string): string {
  const header = Buffer.from(JSON.stringify({ alg: 'HS256', kid: tokenId })).toString('base64url');
  const payload = Buffer.from(content).toString('base64url');
  const signature = createHmac('sha256', tokenSecret).update(`${header}.${payload}`).digest('base64url');
  return `${header}..${signature}`;
}

export interface AddonParameters {
  ca: string;
  /** https://ADDRESS:PORT as instances reach it. */
  server: string;
  bootstrapToken: string;
  clusterDns: string;
}

/** The objects that make an API server a cluster: what kubeadm and EKS put there, under the same names. */
export function addons(p: AddonParameters): Addon[] {
  const [tokenId = '', tokenSecret = ''] = p.bootstrapToken.split('.');
  const clusterInfo = JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: '', cluster: { 'certificate-authority-data': Buffer.from(p.ca).toString('base64'), server: p.server } }],
  });
  return [
    {
      type: resources.secrets,
      object: {
        metadata: { name: `bootstrap-token-${tokenId}`, namespace: 'kube-system' },
        type: 'bootstrap.kubernetes.io/token',
        stringData: {
          'token-id': tokenId,
          'token-secret': tokenSecret,
          'usage-bootstrap-authentication': 'true',
          'usage-bootstrap-signing': 'true',
          'auth-extra-groups': 'system:bootstrappers:kubeadm:default-node-token',
          description: 'joins the nodes of this cluster',
        },
      },
    },
    {
      type: resources.configmaps,
      object: {
        metadata: { name: 'cluster-info', namespace: 'kube-public' },
        data: { kubeconfig: clusterInfo, [`jws-kubeconfig-${tokenId}`]: signClusterInfo(clusterInfo, tokenId, tokenSecret) },
      },
    },
    {
      type: resources.roles,
      object: {
        metadata: { name: 'kubeadm:bootstrap-signer-clusterinfo', namespace: 'kube-public' },
        rules: [{ ...rule([''], ['configmaps'], ['get']), resourceNames: ['cluster-info'] }],
      },
    },
    {
      type: resources.rolebindings,
      object: {
        metadata: { name: 'kubeadm:bootstrap-signer-clusterinfo', namespace: 'kube-public' },
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'kubeadm:bootstrap-signer-clusterinfo' },
        subjects: [{ kind: 'User', name: 'system:anonymous', apiGroup: 'rbac.authorization.k8s.io' }],
      },
    },
    bind('kubeadm:kubelet-bootstrap', 'system:node-bootstrapper', group('system:bootstrappers:kubeadm:default-node-token')),
    bind(
      'kubeadm:node-autoapprove-bootstrap',
      'system:certificates.k8s.io:certificatesigningrequests:nodeclient',
      group('system:bootstrappers:kubeadm:default-node-token'),
    ),
    bind(
      'kubeadm:node-autoapprove-certificate-rotation',
      'system:certificates.k8s.io:certificatesigningrequests:selfnodeclient',
      group('system:nodes'),
    ),
    bind('kubeadm:cluster-admins', 'cluster-admin', group('kubeadm:cluster-admins')),
    bind('kumulus:node-proxier', 'system:node-proxier', group('system:nodes')),
    {
      type: resources.clusterroles,
      object: {
        metadata: { name: 'kumulus:node-dns' },
        rules: [rule([''], ['services', 'namespaces'], ['list', 'watch']), rule(['discovery.k8s.io'], ['endpointslices'], ['list', 'watch'])],
      },
    },
    bind('kumulus:node-dns', 'kumulus:node-dns', group('system:nodes')),
    {
      type: resources.services,
      object: {
        metadata: {
          name: 'kube-dns',
          namespace: 'kube-system',
          // Every node answers on this address itself, so kube-proxy leaves it alone.
          labels: { 'k8s-app': 'kube-dns', 'kubernetes.io/name': 'CoreDNS', 'service.kubernetes.io/service-proxy-name': 'kumulus-node-dns' },
        },
        spec: {
          clusterIP: p.clusterDns,
          ports: [
            { name: 'dns', port: 53, protocol: 'UDP', targetPort: 53 },
            { name: 'dns-tcp', port: 53, protocol: 'TCP', targetPort: 53 },
          ],
        },
      },
    },
    {
      type: resources.csidrivers,
      object: {
        metadata: { name: 'ebs.csi.aws.com' },
        spec: { attachRequired: true, podInfoOnMount: false, fsGroupPolicy: 'ReadWriteOnceWithFSType' },
      },
    },
    {
      type: resources.storageclasses,
      object: {
        metadata: { name: 'gp3', annotations: { 'storageclass.kubernetes.io/is-default-class': 'true' } },
        provisioner: 'ebs.csi.aws.com',
        parameters: { type: 'gp3', 'csi.storage.k8s.io/fstype': 'xfs' },
        reclaimPolicy: 'Delete',
        volumeBindingMode: 'WaitForFirstConsumer',
        allowVolumeExpansion: true,
      },
    },
  ];
}

/** Creates what is missing; what is there stays as its owner changed it. */
export async function applyAddons(client: Client, parameters: AddonParameters, signal?: AbortSignal): Promise<void> {
  const options = signal ? { signal } : {};
  const apply = async ({ type, object }: Addon) => {
    // Looked for first: a Service with an address of its own is refused for that address before its name is looked at.
    const { name, namespace } = object.metadata as { name: string; namespace?: string };
    const found = await client.get(type, namespace ? { name, namespace } : { name }, options).catch((error) => {
      if (!isNotFound(error)) throw error;
    });
    if (found) return;
    await client.create(type, object, options).catch((error) => {
      if (!isAlreadyExists(error)) throw error;
    });
  };
  // All at once: they go into one commit of the store.
  await Promise.all(addons(parameters).map(apply));
}

/** For names: a few characters that stand for a text. */
export const shortHash = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 8);
