import { type CelMap, isList, isMap, itemsOfList, Opaque, sizeOf, type Value } from './values.ts';

export interface CostOptions {
  /** Other costs than those of Kubernetes' libraries, by function. */
  of?: (fn: string) => number | undefined;
}

const byText = 0.1;
const byPattern = 0.25;
const text = (size: number, factor = 1): number => Math.ceil(size * factor * byText);

/** What going through a value once costs. */
function traversal(value: Value): number {
  if (typeof value === 'string' || value instanceof Uint8Array) return Math.floor(Buffer.byteLength(value as string) * byText);
  let cost = 0;
  if (isList(value)) for (const item of itemsOfList(value)) cost += traversal(item);
  else if (isMap(value)) for (const key of (value as CelMap).keys()) cost += traversal(key) + traversal(value.get(key) as Value);
  else return 1;
  return cost;
}

const unit = new Set(
  `serviceAccount path group resource subresource namespace name allowed reason error errored masked prefixLength family isUnspecified isLoopback
isLinkLocalMulticast isLinkLocalUnicast isGlobalUnicast format.named sign asInteger isInteger asApproximateFloat isGreaterThan isLessThan compareTo add sub
major minor patch getScheme getHostname getHost getPort getEscapedPath getQuery`.split(/\s+/),
);
const ofWholeList = new Set(['isSorted', 'sum', 'max', 'min', 'indexOf', 'lastIndexOf', 'includes']);
const ofText = new Set(['url', 'lowerAscii', 'upperAscii', 'substring', 'trim', 'jsonpatch.escapeKey', 'cidr', 'isIP', 'isCIDR', 'quantity', 'isQuantity', 'semver', 'isSemver']);

/** What a call cost, as kube-apiserver counts it. The arguments begin with the target. */
export function callCost(fn: string, id: string, args: Value[], result: Value, options: CostOptions = {}): number {
  const own = options.of?.(fn);
  if (own !== undefined) return own;
  const size = (i: number) => sizeOf(args[i] as Value);
  if (fn === 'check') return 350_000;
  if (unit.has(fn)) return 1;
  if (ofWholeList.has(fn)) return traversal(args[0] as Value);
  if (ofText.has(fn)) return text(size(0));
  switch (fn) {
    case 'fieldSelector':
    case 'labelSelector':
      return 10 + text(size(1)) + Math.ceil(Math.ceil(size(1) * 0.5) * 50);
    case 'replace':
    case 'split':
    case 'ip.isCanonical':
      return text(size(0), 2);
    case 'join':
      return text(sizeOf(result), 2);
    case 'find':
    case 'findAll':
      return text(1 + size(0)) * Math.ceil(size(1) * byPattern);
    case 'ip':
      return id === 'cidr_ip' ? 1 : text(size(0));
    case 'containsIP':
      return text(2 * size(0)) + (id === 'cidr_contains_ip_string' ? text(size(1)) : 0);
    case 'containsCIDR':
      return text(2 * size(0)) + text(size(0)) + 1 + (id === 'cidr_contains_cidr_string' ? text(size(1)) : 0);
    case 'validate':
      return text(1 + size(1)) * Math.ceil(128 * byPattern);
    case '_==_':
      if (args[0] instanceof Opaque) return 1;
      break;
  }
  return standardCost(id, size);
}

function standardCost(id: string, size: (i: number) => number): number {
  switch (id) {
    case 'starts_with_string':
    case 'ends_with_string':
      return text(size(1));
    case 'string_to_bytes':
    case 'bytes_to_string':
    case 'strings_quote':
    case 'string_format':
      return text(size(0));
    case 'in_list':
      return size(1);
    case 'equals':
    case 'not_equals':
      return text(Math.min(size(0), size(1)));
    case 'add_string':
    case 'add_bytes':
      return text(size(0) + size(1));
    case 'matches':
    case 'matches_string':
      return text(1 + size(0)) * Math.ceil(size(1) * byPattern);
    case 'contains_string':
      return text(size(0)) * text(size(1));
  }
  if (/^(less|greater)(_equals)?_(string|bytes)$/.test(id)) return text(Math.min(size(0), size(1)));
  return 1;
}
