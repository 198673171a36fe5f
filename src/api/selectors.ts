import { badRequest } from './errors.ts';

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

const labelValue = /^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$/;
const labelKey = /^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/)?([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$/;
const bad = (text: string, why: string) => badRequest(`unable to parse requirement: ${why}${text ? ` (in ${JSON.stringify(text)})` : ''}`);

/** Parses `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1`. StatusError 400 on anything else. */
export function parseLabelSelector(text: string): Requirement[] {
  const requirements: Requirement[] = [];
  const tokens = text.match(/\(|\)|,|!=|==|=|!|<|>|[^\s(),!=<>]+/g) ?? [];
  let i = 0;
  const key = (): string => {
    const k = tokens[i++];
    if (k === undefined || !labelKey.test(k) || (k.split('/').at(-1) as string).length > 63)
      throw bad(text, `found '${k ?? ''}', expected: identifier`);
    return k;
  };
  const isWord = (t: string | undefined) => t !== undefined && !/^(\(|\)|,|!=|==|=|!|<|>)$/.test(t);
  const value = (): string => {
    const v = isWord(tokens[i]) ? (tokens[i++] as string) : '';
    if (v.length > 63 || !labelValue.test(v))
      throw bad(
        text,
        `values[0]: Invalid value: ${JSON.stringify(v)}: a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character`,
      );
    return v;
  };
  while (i < tokens.length) {
    if (tokens[i] === '!') {
      i++;
      requirements.push({ key: key(), operator: 'DoesNotExist', values: [] });
    } else {
      const k = key();
      const operator = tokens[i];
      if (operator === undefined || operator === ',') requirements.push({ key: k, operator: 'Exists', values: [] });
      else if (operator === '=' || operator === '==') {
        i++;
        requirements.push({ key: k, operator: 'In', values: [value()] });
      } else if (operator === '!=') {
        i++;
        requirements.push({ key: k, operator: 'NotIn', values: [value()] });
      } else if (operator === '<' || operator === '>') {
        i++;
        const number = value();
        if (!/^-?\d+$/.test(number)) throw bad(text, `for 'Gt', 'Lt' operators, the value must be an integer`);
        requirements.push({ key: k, operator: operator === '>' ? 'GreaterThan' : 'LessThan', values: [number] });
      } else if (operator === 'in' || operator === 'notin') {
        i++;
        if (tokens[i++] !== '(') throw bad(text, `found '${tokens[i - 1] ?? ''}', expected: '('`);
        const values: string[] = [];
        for (;;) {
          values.push(value());
          const next = tokens[i++];
          if (next === ')') break;
          if (next !== ',') throw bad(text, `found '${next ?? ''}', expected: ',' or ')'`);
        }
        requirements.push({ key: k, operator: operator === 'in' ? 'In' : 'NotIn', values });
      } else throw bad(text, `found '${operator}', expected: in, notin, =, ==, !=, gt, lt`);
    }
    if (i >= tokens.length) break;
    if (tokens[i++] !== ',') throw bad(text, `found '${tokens[i - 1]}', expected: ',' or 'end of string'`);
    if (i >= tokens.length) throw bad(text, `found '', expected: identifier after ','`);
  }
  return requirements;
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

/** Parses `a.b=c,d!=e`, with backslash escapes. StatusError 400 on anything else. */
export function parseFieldSelector(text: string): FieldRequirement[] {
  const terms: string[] = [];
  let term = '';
  for (let i = 0; i < text.length; i++) {
    if (text[i] === '\\' && i + 1 < text.length) term += text[i++] as string;
    else if (text[i] === ',') {
      terms.push(term);
      term = '';
      continue;
    }
    term += text[i];
  }
  terms.push(term);
  return terms
    .filter((t) => t !== '')
    .map((t) => {
      const m = /^([^=!]*)(!=|==|=)([\s\S]*)$/.exec(t);
      if (!m) throw badRequest(`invalid selector: '${text}'; can't understand '${t}'`);
      return { field: m[1] as string, op: m[2] === '!=' ? '!=' : '=', value: (m[3] as string).replace(/\\([\\,=])/g, '$1') } as FieldRequirement;
    });
}
