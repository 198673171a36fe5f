import { forbidden, notFound } from '../../api/errors.ts';
import type { Namespace } from '../../api/generated/types.ts';
import type { AdmissionPlugin } from './chain.ts';

const immortal = new Set(['default', 'kube-system', 'kube-public']);

/** Nothing is created in a namespace that does not exist or is ending; the system's namespaces cannot be deleted. */
export const namespaceLifecycle: AdmissionPlugin = {
  name: 'NamespaceLifecycle',
  async admit({ api, call, operation, group, resource, namespace, name }) {
    if (operation === 'DELETE' && group === '' && resource === 'namespaces' && immortal.has(name)) {
      throw forbidden({ group: '', resource: 'namespaces' }, name, 'this namespace may not be deleted');
    }
    if (!namespace || operation === 'DELETE' || operation === 'CONNECT') return;
    // What exists may be changed, and access be asked about, whatever happens to the namespace.
    if (operation === 'UPDATE' || group === 'authorization.k8s.io') return;
    const cache = api.registry.cache('', 'v1', 'namespaces');
    let entry = cache.get(namespace);
    if (!entry) {
      await api.hub.current(call.signal);
      entry = cache.get(namespace);
    }
    if (!entry) throw notFound({ group: '', resource: 'namespaces' }, namespace);
    const { metadata, status } = entry.object as unknown as Namespace;
    if (status?.phase !== 'Terminating' && !metadata.deletionTimestamp) return;
    const error = forbidden(call.target.subject, name, `unable to create new content in namespace ${namespace} because it is being terminated`);
    error.status.details = {
      ...error.status.details,
      causes: [{ reason: 'NamespaceTerminating', message: `namespace ${namespace} is being terminated`, field: 'metadata.namespace' }],
    };
    throw error;
  },
};
