import type { JWTPayload } from 'jose';
import { adaptAny } from '../../../api/cel/adapt.ts';
import type { Program } from '../../../api/cel/environment.ts';
import { toJson } from '../../../api/cel/to-json.ts';
import type { UserInfo } from '../user.ts';
import type { ClaimOrExpression, JwtIssuer } from './configuration.ts';

/** The user that a verified token's claims make. Throws, as upstream says it, where they do not fit. */
export function userOfClaims(issuer: JwtIssuer, claims: JWTPayload): UserInfo {
  const variables = claims && { claims: adaptAny(claims) };
  const run = (program: Program, what: string): unknown => {
    try {
      return toJson(program.run((name) => (name === 'claims' ? variables.claims : undefined)).value);
    } catch (error) {
      throw new Error(`oidc: error evaluating ${what}: ${(error as Error).message}`);
    }
  };
  const name = username(issuer.username, claims, run);
  const uid = issuer.uid && text(issuer.uid, claims, 'uid', run);
  const user: UserInfo = { name, groups: groupsOf(issuer.groups, claims, run), ...(uid ? { uid } : {}) };
  const extra: Record<string, string[]> = {};
  for (const { key, value } of issuer.extra) {
    const values = strings(run(value, 'extra claim expression'), 'extra claim');
    if (values.length) extra[key] = values;
  }
  if (Object.keys(extra).length) user.extra = extra;

  for (const [claim, wanted] of Object.entries(issuer.requiredClaims)) {
    if (!Object.hasOwn(claims, claim)) throw new Error(`oidc: required claim ${claim} not present in ID token`);
    if (claims[claim] !== wanted)
      throw new Error(`oidc: required claim ${claim} value does not match. Got = ${String(claims[claim])}, want = ${wanted}`);
  }
  for (const { expression, message } of issuer.claimRules)
    mustHold(run(expression, 'claim validation expression'), expression, message, 'claim validation expression');
  if (issuer.userRules.length) {
    const shown = adaptAny({ username: user.name, uid: user.uid ?? '', groups: user.groups, extra });
    for (const { expression, message } of issuer.userRules) {
      let value: unknown;
      try {
        ({ value } = expression.run((variable) => (variable === 'user' ? shown : undefined)));
      } catch (error) {
        throw new Error(`oidc: error evaluating user info validation rule: ${(error as Error).message}`);
      }
      mustHold(value, expression, message, 'user info validation rule');
    }
  }
  return user;
}

type Run = (program: Program, what: string) => unknown;

function username(mapping: ClaimOrExpression, claims: JWTPayload, run: Run): string {
  if (mapping.expression) {
    const name = run(mapping.expression, 'username claim expression');
    if (typeof name !== 'string') throw new Error('oidc: error evaluating username claim expression: username claim expression must return a string');
    if (!name) throw new Error('oidc: empty username via CEL expression is not allowed');
    return name;
  }
  const claim = mapping.claim as string;
  const name = claims[claim];
  if (typeof name !== 'string') throw new Error(`oidc: parse username claims ${JSON.stringify(claim)}: ${name === undefined ? 'claim not present' : 'it is no string'}`);
  if (claim === 'email' && Object.hasOwn(claims, 'email_verified') && claims['email_verified'] !== true) throw new Error('oidc: email not verified');
  return (mapping.prefix ?? '') + name;
}

function text(mapping: ClaimOrExpression, claims: JWTPayload, what: string, run: Run): string {
  const value = mapping.expression ? run(mapping.expression, `${what} claim expression`) : claims[mapping.claim as string];
  if (typeof value !== 'string') throw new Error(`oidc: ${what}: ${value === undefined ? 'claim not present' : 'it is no string'}`);
  return value;
}

function groupsOf(mapping: ClaimOrExpression | undefined, claims: JWTPayload, run: Run): string[] {
  if (!mapping) return [];
  if (mapping.expression) return strings(run(mapping.expression, 'group claim expression'), 'groups claim');
  const value = claims[mapping.claim as string];
  if (value === undefined) return [];
  return strings(value, `groups claim ${JSON.stringify(mapping.claim)}`).map((group) => (mapping.prefix ?? '') + group);
}

/** A string counts as a list of one, an empty one as none. */
function strings(value: unknown, what: string): string[] {
  if (value === null || value === undefined || value === '') return [];
  if (typeof value === 'string') return [value];
  if (Array.isArray(value) && value.every((v) => typeof v === 'string')) return value.filter((v) => v !== '');
  throw new Error(`oidc: ${what}: expression must return a string or a list of strings`);
}

function mustHold(value: unknown, { source }: Program, message: string, what: string): void {
  if (value === true) return;
  if (value !== false) throw new Error(`oidc: error evaluating ${what}: validation expression must return a boolean`);
  throw new Error(`oidc: error evaluating ${what}: validation expression '${source}' failed: ${message}`);
}
