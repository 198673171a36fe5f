import { badRequest, forbidden, StatusError } from '../../api/errors.ts';
import type { Container, Pod, ServiceAccount } from '../../api/generated/types.ts';
import { randomSuffix } from '../../api/names.ts';
import type { AdmissionPlugin, AdmissionRequest } from './chain.ts';

export const tokenMountPath = '/var/run/secrets/kubernetes.io/serviceaccount';
const mirrorAnnotation = 'kubernetes.io/config.mirror';

/** Gives pods their service account, its token as a projected volume, and its image pull secrets. */
export const serviceAccountAdmission: AdmissionPlugin = {
  name: 'ServiceAccount',
  async admit(request) {
    if (request.group !== '' || request.resource !== 'pods' || request.subresource || request.operation !== 'CREATE') return;
    const pod = request.object as Pod;
    const { spec } = pod;
    if (!spec) return;
    if (pod.metadata.annotations?.[mirrorAnnotation] !== undefined) {
      refuseMirror(request, pod);
      return;
    }
    spec.serviceAccountName ||= spec.serviceAccount || 'default';
    spec.serviceAccount = spec.serviceAccountName;
    const account = await accountOf(request, spec.serviceAccountName);
    const automount = spec.automountServiceAccountToken ?? account.automountServiceAccountToken ?? true;
    if (automount) mountToken(pod);
    if (!spec.imagePullSecrets?.length && account.imagePullSecrets?.length) spec.imagePullSecrets = account.imagePullSecrets.map((s) => ({ ...s }));
  },
};

function refuseMirror(request: AdmissionRequest, pod: Pod): void {
  if (pod.spec?.serviceAccountName) throw badRequest('a mirror pod may not reference service accounts');
  if ((pod.spec?.volumes ?? []).some((v) => v.secret || v.projected?.sources?.some((s) => s.secret || s.serviceAccountToken))) {
    throw forbidden(request.call.target.subject, request.name, 'a mirror pod may not reference secrets');
  }
}

/** The controller may just be making the account of a new namespace: what is not there is looked for once more. */
async function accountOf(request: AdmissionRequest, name: string): Promise<ServiceAccount> {
  const storage = request.api.registry.storage('', 'v1', 'serviceaccounts');
  const key = `${request.namespace}/${name}`;
  const entry = storage.cache.get(key) ?? (await storage.read(key));
  if (entry) return entry.object as unknown as ServiceAccount;
  const who = `error looking up service account ${key}: serviceaccount "${name}" not found`;
  const error = forbidden(request.call.target.subject, request.object.metadata.name ?? '', who);
  throw new StatusError(403, 'Forbidden', error.message, error.status.details);
}

function mountToken(pod: Pod): void {
  const { spec } = pod;
  const containers = [...(spec!.initContainers ?? []), ...(spec!.containers ?? [])];
  const existing = (spec!.volumes ?? []).find((v) => v.name.startsWith('kube-api-access-'));
  const volumeName = existing?.name ?? `kube-api-access-${randomSuffix()}`;
  let mounted = false;
  for (const container of containers as Container[]) {
    if (container.volumeMounts?.some((m) => m.mountPath === tokenMountPath)) continue;
    container.volumeMounts = [...(container.volumeMounts ?? []), { name: volumeName, readOnly: true, mountPath: tokenMountPath }];
    mounted = true;
  }
  if (!mounted || existing) return;
  spec!.volumes = [
    ...(spec!.volumes ?? []),
    {
      name: volumeName,
      projected: {
        sources: [
          // Ends seven seconds after an hour, so that refreshing tokens of many pods do not fall together with hourly jobs.
          { serviceAccountToken: { expirationSeconds: 3607, path: 'token' } },
          { configMap: { name: 'kube-root-ca.crt', items: [{ key: 'ca.crt', path: 'ca.crt' }] } },
          { downwardAPI: { items: [{ path: 'namespace', fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.namespace' } }] } },
        ],
        defaultMode: 420,
      },
    },
  ];
}
