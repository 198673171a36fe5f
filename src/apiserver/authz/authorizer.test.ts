import { expect, test } from 'vitest';
import type { Call } from '../api.ts';
import type { passOn } from '../extensions/aggregation/proxy.ts';
import { type Attributes, Authorizer, type Decision, Permit } from './authorizer.ts';

const asked: Attributes = { user: { name: 'jane', groups: [] }, verb: 'create', group: '', resource: 'pods', subresource: '', namespace: 'default', name: 'p' };
const late = (decision: Decision) => new Authorizer([() => Promise.resolve(decision)]);

test('a permit says what was allowed, at once or later', async () => {
  for (const authorizer of [new Authorizer([() => ({ allowed: true, reason: '' })]), late({ allowed: true, reason: '' })]) {
    const permit = await authorizer.check(asked);
    expect(permit).toBeInstanceOf(Permit);
    expect([permit.user.name, permit.verb, permit.name]).toEqual(['jane', 'create', 'p']);
    expect(() => permit.demand('create')).not.toThrow();
    expect(() => permit.demand('delete')).toThrow('what was allowed is to create, not to delete');
  }
});

test('there is none where it is not allowed', async () => {
  for (const authorizer of [new Authorizer([]), new Authorizer([() => ({ allowed: false, reason: 'no' })])]) expect(() => authorizer.check(asked)).toThrow('User "jane" cannot create');
  await expect(Promise.resolve(late({ allowed: false, reason: 'no' }).check(asked))).rejects.toThrow('cannot create');
});

test('who had the last word is told of', async () => {
  const told: string[] = [];
  const observer = { authorized: (d: Decision) => void told.push(`${d.allowed}`), decided: (type: string, name: string, allowed: boolean) => void told.push(`${type} ${name} ${allowed}`) };
  const nothing = Object.assign(() => undefined, { title: { type: 'Node', name: 'node' } });
  const later = Object.assign(async () => ({ allowed: true, reason: '' }), { title: { type: 'Webhook', name: 'hook' } });
  await new Authorizer([nothing, later], observer).check(asked);
  expect(() => new Authorizer([nothing], observer).check(asked)).toThrow();
  expect(told).toEqual(['Webhook hook true', 'true', 'false']);
});

/** Never called: the compiler is what judges it. That an error is expected where there is none fails the type check of `npm test`. */
function whatDoesNotCompile(authorizer: Authorizer, rest: Omit<Call, 'permit'>, pass: typeof passOn, remote: never): void {
  // @ts-expect-error: nobody was asked
  const unasked: Call = { ...rest };
  // @ts-expect-error: the answer was not awaited
  const early: Call = { ...rest, permit: authorizer.check(asked) };
  // @ts-expect-error: nor here
  void pass(remote, remote, remote, authorizer.check(asked));
  // @ts-expect-error: what only looks like a permit
  const lookalike: Permit = { user: asked.user, verb: 'create', name: 'p', demand: () => {} };
  // @ts-expect-error: nobody makes one for himself
  const own = new Permit(asked);
  void [unasked, early, lookalike, own];
}
void whatDoesNotCompile;
