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
  if (name === undefined) {
    const { kind: _k, apiVersion: _a, ...item } = store;
    return { kind: 'ComponentStatusList', apiVersion: 'v1', metadata: {}, items: [item] };
  }
  if (name !== 'etcd-0') throw notFound({ group: '', resource: 'componentstatus' }, name);
  return store;
}
