import { badRequest } from './errors.ts';
import { labelValueProblems, qualifiedNameProblems } from './validation.ts';

export interface Requirement {
  key: string;
  operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist' | 'GreaterThan' | 'LessThan';
  values: string[];
}
export interface FieldRequirement {
  field: string;
  op: '=' | '!=';
  value: string;
}
export interface LabelSelector {
  matchLabels?: Record<string, string>;
  matchExpressions?: { key: string; operator: string; values?: string[] }[];
}

const symbols = /^(\(|\)|,|!=|==|=|!|<|>)$/;
const words = (token: string | undefined): token is string => token !== undefined && !symbols.test(token);
const unparsable = (why: string) => badRequest(`unable to parse requirement: ${why}`);

/** Parses `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1`. StatusError 400 on anything else, in upstream's words. */
export function parseLabelSelector(text: string): Requirement[] {
  const tokens = text.match(/\(|\)|,|!=|==|=|!|<|>|[^\s(),!=<>]+/g) ?? [];
  const requirements: Requirement[] = [];
  let i = 0;
  const key = (): string => {
    const found = tokens[i++];
    if (!words(found)) throw unparsable(`found '${found ?? ''}', expected: identifier`);
    return found;
  };
  /** One value, maybe none. */
  const value = (): string => {
    if (tokens[i] === undefined || tokens[i] === ',') return '';
    if (!words(tokens[i])) throw unparsable(`found '${tokens[i]}', expected: identifier`);
    return tokens[i++] as string;
  };
  const values = (): string[] => {
    if (tokens[i] !== '(') throw unparsable(`found '${tokens[i] ?? ''}' expected: '('`);
    i++;
    const found: string[] = [];
    for (;;) {
      found.push(words(tokens[i]) ? (tokens[i++] as string) : '');
      const next = tokens[i++];
      if (next === ')') return [...new Set(found)];
      if (next !== ',') throw unparsable(`found '${next ?? ''}', expected: ',' or ')'`);
    }
  };
  const requirement = (): Requirement => {
    if (tokens[i] === '!') {
      i++;
      return { key: key(), operator: 'DoesNotExist', values: [] };
    }
    const k = key();
    const operator = tokens[i];
    if (operator === undefined || operator === ',') return { key: k, operator: 'Exists', values: [] };
    i++;
    switch (operator) {
      case '=':
      case '==':
        return { key: k, operator: 'In', values: [value()] };
      case '!=':
        return { key: k, operator: 'NotIn', values: [value()] };
      case '<':
        return { key: k, operator: 'LessThan', values: [value()] };
      case '>':
        return { key: k, operator: 'GreaterThan', values: [value()] };
      case 'in':
        return { key: k, operator: 'In', values: values() };
      case 'notin':
        return { key: k, operator: 'NotIn', values: values() };
      default:
        throw unparsable(`found '${operator}', expected: in, notin, =, ==, !=, gt, lt`);
    }
  };
  while (i < tokens.length) {
    const first = tokens[i];
    if (first !== '!' && !words(first)) throw badRequest(`found '${first}', expected: !, identifier, or 'end of string'`);
    const found = requirement();
    check(found);
    requirements.push(found);
    const next = tokens[i++];
    if (next === undefined) break;
    if (next !== ',') throw badRequest(`found '${next}', expected: ',' or 'end of string'`);
    if (tokens[i] !== '!' && !words(tokens[i])) throw badRequest(`found '${tokens[i] ?? ''}', expected: identifier after ','`);
  }
  return requirements;
}

function check({ key, operator, values }: Requirement): void {
  const invalid = (path: string, value: string, detail: string) => unparsable(`${path}: Invalid value: ${JSON.stringify(value)}: ${detail}`);
  for (const detail of qualifiedNameProblems(key)) throw invalid('<nil>', key, detail);
  values.forEach((value, n) => {
    if ((operator === 'GreaterThan' || operator === 'LessThan') && !/^[-+]?\d+$/.test(value))
      throw invalid(`values[${n}]`, value, "for 'Gt', 'Lt' operators, the value must be an integer");
    for (const detail of labelValueProblems(value)) throw invalid(`values[${n}][${key}]`, value, detail);
  });
}

function matches(r: { key: string; operator: string; values?: readonly string[] }, labels: Record<string, string> | undefined): boolean {
  const has = labels !== undefined && Object.hasOwn(labels, r.key);
  const value = has ? (labels[r.key] as string) : '';
  switch (r.operator) {
    case 'In':
      return has && (r.values ?? []).includes(value);
    case 'NotIn':
      return !has || !(r.values ?? []).includes(value);
    case 'Exists':
      return has;
    case 'DoesNotExist':
      return !has;
    case 'GreaterThan':
      return has && /^-?\d+$/.test(value) && BigInt(value) > BigInt(r.values?.[0] ?? 0);
    case 'LessThan':
      return has && /^-?\d+$/.test(value) && BigInt(value) < BigInt(r.values?.[0] ?? 0);
    default:
      return false;
  }
}

export function matchesSelector(requirements: readonly Requirement[], labels: Record<string, string> | undefined): boolean {
  return requirements.every((r) => matches(r, labels));
}

/** A selector that is not there matches nothing; an empty one everything. */
export function labelSelectorMatches(selector: LabelSelector | undefined, labels: Record<string, string> | undefined): boolean {
  if (!selector) return false;
  for (const [key, value] of Object.entries(selector.matchLabels ?? {}))
    if (!labels || !Object.hasOwn(labels, key) || labels[key] !== value) return false;
  return (selector.matchExpressions ?? []).every((e) => matches(e, labels));
}

/** As kubectl prints it; `<none>` for an empty one. */
export function formatLabelSelector(selector: LabelSelector | undefined): string {
  const parts = Object.entries(selector?.matchLabels ?? {})
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([k, v]) => `${k}=${v}`);
  for (const { key, operator, values = [] } of selector?.matchExpressions ?? []) {
    if (operator === 'In') parts.push(`${key} in (${[...values].sort().join(',')})`);
    else if (operator === 'NotIn') parts.push(`${key} notin (${[...values].sort().join(',')})`);
    else if (operator === 'Exists') parts.push(key);
    else if (operator === 'DoesNotExist') parts.push(`!${key}`);
  }
  return parts.length ? parts.join(',') : '<none>';
}

/** Parses `a.b=c,d!=e`, with backslash escapes. StatusError 400 on anything else, in upstream's words. */
export function parseFieldSelector(text: string): FieldRequirement[] {
  return text
    .split(/(?<!(?<!\\)(?:\\\\)*\\),/)
    .filter((term) => term !== '')
    .map((term) => {
      const m = /^([^=!]*)(!=|==|=)([\s\S]*)$/.exec(term);
      if (!m) throw badRequest(`invalid selector: '${text}'; can't understand '${term}'`);
      return { field: m[1] as string, op: m[2] === '!=' ? '!=' : '=', value: unescaped(m[3] as string) };
    });
}

function unescaped(value: string): string {
  let plain = '';
  for (let i = 0; i < value.length; i++) {
    const c = value[i] as string;
    if (c === '\\') {
      const next = value[++i] ?? '';
      if (!['\\', ',', '='].includes(next)) throw badRequest(`invalid field selector: invalid escape sequence: \\${next}`);
      plain += next;
    } else if (c === ',' || c === '=') throw badRequest(`invalid field selector: unescaped character in value: ${c.charCodeAt(0)}`);
    else plain += c;
  }
  return plain;
}
