import { parseDocument, type Statement } from './documents.ts';

/** Who asks to assume a role, and with what. */
export interface TrustRequest {
  /** Such as sts:AssumeRole. */
  action: string;
  accountId: string;
  /** All ARNs by which a policy may name the caller: of a session, also its role's. */
  arns: string[];
  /** Values of condition keys, such as sts:ExternalId; keys that are not here have none. */
  context: Record<string, string | undefined>;
}

/** `*` and `?` stand for any text and any one character. */
function like(pattern: string, text: string): boolean {
  const source = pattern
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replace(/\*/g, '.*')
    .replace(/\?/g, '.');
  return new RegExp(`^${source}$`, 's').test(text);
}

const operators: Record<string, (value: string, wanted: string[]) => boolean> = {
  stringequals: (value, wanted) => wanted.includes(value),
  stringnotequals: (value, wanted) => !wanted.includes(value),
  stringequalsignorecase: (value, wanted) => wanted.some((one) => one.toLowerCase() === value.toLowerCase()),
  stringlike: (value, wanted) => wanted.some((one) => like(one, value)),
  stringnotlike: (value, wanted) => !wanted.some((one) => like(one, value)),
  arnequals: (value, wanted) => wanted.some((one) => like(one, value)),
  arnlike: (value, wanted) => wanted.some((one) => like(one, value)),
  bool: (value, wanted) => wanted.some((one) => one.toLowerCase() === value),
};

/** Whether a condition holds; undefined when this endpoint cannot tell. */
function holds([operator, key, wanted]: Statement['conditions'][number], request: TrustRequest): boolean | undefined {
  const optional = /ifexists$/i.test(operator);
  const name = operator.replace(/ifexists$/i, '').toLowerCase();
  const test = Object.hasOwn(operators, name) ? operators[name] : undefined;
  if (!test) return undefined;
  const found = Object.keys(request.context).find((one) => one.toLowerCase() === key.toLowerCase());
  const value = found === undefined ? undefined : request.context[found];
  // Without a value, only what is wanted not to be something holds.
  if (value === undefined) return optional || /not/.test(name);
  return test(value, wanted);
}

function names(principal: string, request: TrustRequest): boolean {
  if (principal === '*' || principal === request.accountId) return true;
  return principal === `arn:aws:iam::${request.accountId}:root` || request.arns.includes(principal);
}

function applies(statement: Statement, request: TrustRequest, doubt: boolean): boolean {
  const { action } = request;
  const matches = (pattern: string) => like(pattern.toLowerCase(), action.toLowerCase());
  const actionFits = statement.actions.length > 0 ? statement.actions.some(matches) : !statement.otherActions.some(matches);
  if (!actionFits || !(statement.principals['AWS'] ?? []).some((one) => names(one, request))) return false;
  return statement.conditions.every((condition) => holds(condition, request) ?? doubt);
}

/** Whether a role's trust policy lets a caller of the account assume it. What cannot be told counts against it. */
export function trusts(document: string, request: TrustRequest): boolean {
  const statements = parseDocument(document);
  if (statements.some((one) => one.effect === 'Deny' && applies(one, request, true))) return false;
  return statements.some((one) => one.effect === 'Allow' && applies(one, request, false));
}
