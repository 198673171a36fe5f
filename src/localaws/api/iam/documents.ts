import { AwsError } from '../errors.ts';

/** A statement of a policy, with what may be one or several made several. */
export interface Statement {
  effect: 'Allow' | 'Deny';
  actions: string[];
  /** NotAction: all but these. */
  otherActions: string[];
  /** Principals by their kind: AWS, Service, Federated; `*` of all stands under AWS. */
  principals: Record<string, string[]>;
  /** Operator, key and values. */
  conditions: [operator: string, key: string, values: string[]][];
}

const malformed = (message: string) => new AwsError('MalformedPolicyDocument', message);
const many = (value: unknown): string[] => (value === undefined ? [] : Array.isArray(value) ? value.map(String) : [String(value)]);

const documentFields = new Set(['Version', 'Id', 'Statement']);
const statementFields = new Set([
  'Sid',
  'Effect',
  'Principal',
  'NotPrincipal',
  'Action',
  'NotAction',
  'Resource',
  'NotResource',
  'Condition',
]);

function checkFields(value: object, known: Set<string>): void {
  if (Object.keys(value).some((field) => !known.has(field))) throw malformed('Syntax errors in policy.');
}

function statement(value: any): Statement {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw malformed('Syntax errors in policy.');
  checkFields(value, statementFields);
  if (value.Effect !== 'Allow' && value.Effect !== 'Deny') throw malformed('Missing required field Effect');
  if (value.Action === undefined && value.NotAction === undefined) throw malformed('Policy statement must contain actions.');
  if (value.Action !== undefined && value.NotAction !== undefined) throw malformed('Syntax errors in policy.');
  for (const action of [...many(value.Action), ...many(value.NotAction)]) {
    if (action !== '*' && !/^[\w-]+:[\w*?-]+$/.test(action)) {
      throw malformed('Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.');
    }
  }
  if (value.Condition !== undefined && (typeof value.Condition !== 'object' || value.Condition === null || Array.isArray(value.Condition))) {
    throw malformed('Syntax errors in policy.');
  }
  const principals: Record<string, string[]> = {};
  if (value.Principal === '*') principals['AWS'] = ['*'];
  else if (typeof value.Principal === 'object' && value.Principal !== null) {
    for (const [kind, names] of Object.entries(value.Principal)) principals[kind] = many(names);
  }
  const conditions: Statement['conditions'] = [];
  for (const [operator, keys] of Object.entries((value.Condition ?? {}) as object)) {
    for (const [key, values] of Object.entries((keys ?? {}) as object)) conditions.push([operator, key, many(values)]);
  }
  return { effect: value.Effect, actions: many(value.Action), otherActions: many(value.NotAction), principals, conditions };
}

/** Reads a policy document. Throws MalformedPolicyDocument. */
export function parseDocument(document: string): Statement[] {
  let value: any;
  try {
    value = JSON.parse(document);
  } catch {
    throw malformed('This policy contains invalid Json');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw malformed('Syntax errors in policy.');
  if (value.Version !== undefined && !['2012-10-17', '2008-10-17'].includes(value.Version)) {
    throw malformed('The policy must contain a valid version string');
  }
  checkFields(value, documentFields);
  const statements = value.Statement === undefined ? [] : Array.isArray(value.Statement) ? value.Statement : [value.Statement];
  if (statements.length === 0) throw malformed('Syntax errors in policy.');
  return statements.map(statement);
}

/** White space does not count towards the size of a document. */
export const sizeOf = (document: string) => document.replace(/\s/g, '').length;

/** A document that says what its bearer may do: it names resources, and no principal. */
export function checkPolicyDocument(document: string | undefined): string {
  const given = document ?? '';
  for (const one of parseDocument(given)) {
    if (Object.keys(one.principals).length > 0) throw malformed('Policy document should not specify a principal.');
  }
  for (const one of [JSON.parse(given).Statement].flat()) {
    if (one.NotPrincipal !== undefined) throw malformed('Policy document should not specify a principal.');
    if (one.Resource === undefined && one.NotResource === undefined) throw malformed('Policy statement must contain resources.');
    for (const resource of [...many(one.Resource), ...many(one.NotResource)]) {
      if (resource !== '*' && !/^arn:[^:]+:[^:]+:[^:]*:[^:]*:.+$/.test(resource)) {
        throw malformed(`Resource ${resource} must be in ARN format or "*".`);
      }
    }
  }
  return given;
}

const longestTrust = 4096;
/** What a principal of each kind looks like. Whether one exists is not looked at. */
const principalForms: Record<string, RegExp> = {
  AWS: /^(\*|\d{12}|arn:aws[\w-]*:(iam|sts)::\d{12}:(root|(user|role|assumed-role|federated-user)\/.+))$/,
  Service: /^[a-z0-9.-]+\.amazonaws\.com(\.cn)?$/,
  Federated: /^(arn:aws[\w-]*:iam::\d{12}:(oidc|saml)-provider\/.+|[a-z0-9.-]+\.[a-z]+)$/,
};

/** A document that says who may assume a role. */
export function checkTrustDocument(document: string | undefined): string {
  const given = document ?? '';
  const statements = parseDocument(given);
  for (const one of [JSON.parse(given).Statement].flat()) {
    if (one.Resource !== undefined || one.NotResource !== undefined) throw malformed('Has prohibited field Resource');
  }
  for (const one of statements) {
    if (Object.keys(one.principals).length === 0) throw malformed('Missing required field Principal');
    for (const [kind, names] of Object.entries(one.principals)) {
      const form = Object.hasOwn(principalForms, kind) ? principalForms[kind] : undefined;
      const wrong = names.find((name) => !form?.test(name));
      if (wrong !== undefined || names.length === 0) throw malformed(`Invalid principal in policy: "${kind}":"${wrong ?? ''}"`);
    }
    if (![...one.actions, ...one.otherActions].every((action) => action === '*' || /^sts:/i.test(action))) {
      throw malformed('AssumeRole policy may only specify STS AssumeRole actions.');
    }
  }
  if (sizeOf(given) > longestTrust) throw new AwsError('LimitExceeded', `Cannot exceed quota for ACLSizePerRole: ${longestTrust}`, 409);
  return given;
}

/** Documents are shown percent-encoded (RFC 3986). */
export const shown = (document: string) =>
  encodeURIComponent(document).replace(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`);
