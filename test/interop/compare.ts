import type { Answer } from './connection.ts';

/** An answer without what differs from run to run. */
export interface Outcome {
  status: number;
  warnings: string[];
  body: unknown;
}

const volatile = new Set(['uid', 'resourceVersion', 'creationTimestamp', 'deletionTimestamp', 'managedFields', 'lastTransitionTime', 'selfLink']);
const volatileSpec = new Set(['clusterIP', 'clusterIPs', 'nodePort', 'healthCheckNodePort', 'lastPhaseTransitionTime']);
const uuid = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g;
const generated = /(Bad_|gen-|kube-api-access-)[bcdfghjklmnpqrstvwxz2456789]{5}/g;

function masked(text: string): string {
  return text
    .replace(uuid, 'UID')
    .replace(/X509SHA256=[0-9a-f]{64}/g, 'X509SHA256=HASH')
    .replace(generated, '$1XXXXX')
    // Upstream appends how its internal objects differ, in the form of Go's structs: that is left out here as in our messages.
    .replace(/\n@@ [\s\S]*?\n(?=, [a-zA-Z.[\]0-9]+: |\]$|$)/g, '')
    .replace(/(patch: Invalid value: "|^Invalid value: ")\{.*\}"/g, '$1{…}"')
    .replace(/"(resourceVersion|creationTimestamp)\\?":\\?"[^"]*"/g, '"$1":"?"')
    .replace(/\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( \+0000 UTC|Z)/g, 'TIME');
}

function clean(value: any, key = ''): any {
  if (Array.isArray(value)) return value.map((v) => clean(v));
  if (value && typeof value === 'object') {
    const result: Record<string, unknown> = {};
    for (const name of Object.keys(value).sort()) {
      if (volatile.has(name)) continue;
      // Allocated values differ; that there is one does not.
      if (volatileSpec.has(name) && value[name] !== 'None' && value[name]) result[name] = Array.isArray(value[name]) ? value[name].length : '?';
      else result[name] = clean(value[name], name);
    }
    return result;
  }
  return typeof value === 'string' && key !== 'image' ? masked(value) : value;
}

/** What upstream's controller manager writes, which is not started beside its API server. */
function withoutTypeChecking(object: any): any {
  if (object?.kind !== 'ValidatingAdmissionPolicy' || !object.status) return object;
  const { observedGeneration: _seen, typeChecking, ...status } = object.status;
  if (typeChecking && Object.keys(typeChecking).length) status.typeChecking = typeChecking;
  return { ...object, status };
}

export const outcomeOf = (answer: Answer): Outcome => ({
  status: answer.status,
  warnings: answer.warnings.map(masked),
  body: answer.json === undefined ? masked(answer.text) : clean(withoutTypeChecking(answer.json)),
});

/** What differs, a line each; empty where the two are equal. */
export function differences(ours: Outcome, theirs: Outcome): string[] {
  const found: string[] = [];
  const walk = (a: any, b: any, path: string) => {
    if (found.length > 12 || JSON.stringify(a) === JSON.stringify(b)) return;
    const both = a && b && typeof a === 'object' && typeof b === 'object' && Array.isArray(a) === Array.isArray(b);
    if (!both) {
      found.push(`${path}\n      ours   ${JSON.stringify(a)}\n      theirs ${JSON.stringify(b)}`);
      return;
    }
    for (const key of new Set([...Object.keys(a), ...Object.keys(b)])) walk(a[key], b[key], path ? `${path}.${key}` : key);
  };
  if (ours.status !== theirs.status) found.push(`status\n      ours   ${ours.status}\n      theirs ${theirs.status}`);
  walk(ours.warnings, theirs.warnings, 'warnings');
  walk(ours.body, theirs.body, '');
  return found;
}
