/** An answer as it is recorded and compared: what differs from run to run is masked, and managers stand in one order. */
export interface RecordedAnswer {
  status: number;
  body: any;
}

const volatile = new Set(['uid', 'resourceVersion', 'creationTimestamp', 'deletionTimestamp', 'clusterIP', 'clusterIPs', 'time']);
const uuid = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g;

export function recorded(status: number, body: unknown, namespace: string): RecordedAnswer {
  return { status, body: masked(body, namespace) };
}

function masked(value: any, namespace: string): any {
  if (typeof value === 'string') {
    return value
      .replaceAll(namespace, 'NS')
      .replace(uuid, 'UID')
      .replace(/kube-api-access-[a-z0-9]{5}/g, 'kube-api-access-X')
      .replace(/(Invalid value: ")\{.*\}"/, '$1{…}"')
      .replace(/(current: |record \()\d+/, '$1N');
  }
  if (Array.isArray(value)) return value.map((item) => masked(item, namespace));
  if (typeof value !== 'object' || value === null) return value;
  const result: Record<string, any> = {};
  for (const key of Object.keys(value).sort()) result[key] = volatile.has(key) && value[key] !== null ? '*' : masked(value[key], namespace);
  // Entries are sorted by time, and two may be written within a second or not.
  const id = (entry: any) => [entry.operation, entry.manager, entry.subresource, entry.apiVersion].join(' ');
  if (Array.isArray(result['managedFields'])) result['managedFields'].sort((a: any, b: any) => (id(a) < id(b) ? -1 : 1));
  // Upstream lists causes of conflicts manager by manager, in any order of managers.
  const text = (cause: any) => `${cause.message} ${cause.field}`;
  if (Array.isArray(result['causes'])) result['causes'].sort((a: any, b: any) => (text(a) < text(b) ? -1 : 1));
  return result;
}
