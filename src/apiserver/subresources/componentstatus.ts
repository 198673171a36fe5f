import { notFound } from '../../api/errors.ts';
import type { Api } from '../api.ts';

/** The deprecated ComponentStatus: the store is the only component that this server knows of. */
export function componentStatuses(api: Api, name?: string): object {
  const failure = api.hub.failure?.message;
  const store = {
    kind: 'ComponentStatus',
    apiVersion: 'v1',
    metadata: { name: 'etcd-0' },
    conditions: [{ type: 'Healthy', status: failure ? 'False' : 'True', message: failure ?? 'ok' }],
  };
  if (name === undefined) return { kind: 'ComponentStatusList', apiVersion: 'v1', metadata: {}, items: [store] };
  if (name !== 'etcd-0') throw notFound({ group: '', resource: 'componentstatuses' }, name);
  return store;
}
