import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import * as resources from '../../../api/generated/resources.ts';
import type { Client } from '../../../client/client.ts';
import { requestOverHttp1, startTestServer, type TestServer } from '../../testing.ts';

let server: TestServer;
let client: Client;
const type = (kind: string): any => resources.builtinResources.find((r) => r.kind === kind);
const configMaps = type('ConfigMap');
const deployments = type('Deployment');
const kinds = ['ValidatingAdmissionPolicy', 'ValidatingAdmissionPolicyBinding', 'MutatingAdmissionPolicy', 'MutatingAdmissionPolicyBinding'].map(type);
const [policies, bindings, mutatingPolicies, mutatingBindings] = kinds;

beforeAll(async () => {
  server = await startTestServer();
  client = server.localClient({ name: 'tester', groups: ['system:masters'] });
});
afterAll(() => server?.stop());
afterEach(async () => {
  for (const kind of kinds) await client.deleteCollection(kind);
});

const rule = { operations: ['CREATE', 'UPDATE'], apiGroups: [''], apiVersions: ['v1'], resources: ['configmaps'] };
const policy = (name: string, spec: object) =>
  client.create(policies, { metadata: { name }, spec: { matchConstraints: { resourceRules: [rule] }, ...spec } } as any);
const bind = (name: string, spec: object = {}) =>
  client.create(bindings, { metadata: { name: `${name}-binding` }, spec: { policyName: name, validationActions: ['Deny'], ...spec } } as any);
const configMap = (name: string, data: Record<string, string> = {}, labels: Record<string, string> = {}) =>
  client.create(configMaps, { metadata: { name, namespace: 'default', labels }, data } as any) as Promise<any>;
const deployment = (name: string, replicas: number): any => ({
  metadata: { name, namespace: 'default' },
  spec: { replicas, selector: { matchLabels: { a: 'b' } }, template: { metadata: { labels: { a: 'b' } }, spec: { containers: [{ name: 'c', image: 'i' }] } } },
});

describe('validating policies', () => {
  test('refuse what does not meet their expressions, where they are bound', async () => {
    await policy('short', {
      variables: [{ name: 'size', expression: "has(object.data) ? size(object.data) : 0" }],
      validations: [{ expression: 'variables.size <= 1', messageExpression: '"%d is too many".format([variables.size])', reason: 'Forbidden' }],
    });
    await configMap('unbound', { a: '1', b: '2' });
    await bind('short');
    await configMap('small', { a: '1' });
    await expect(configMap('big', { a: '1', b: '2' })).rejects.toMatchObject({
      status: {
        code: 403,
        reason: 'Forbidden',
        message: `configmaps "big" is forbidden: ValidatingAdmissionPolicy 'short' with binding 'short-binding' denied request: 2 is too many`,
      },
    });
  });

  test('warn and say so in the audit event, without refusing', async () => {
    await policy('warns', { validations: [{ expression: "object.metadata.name != 'warned'", message: 'a bad name' }] });
    await bind('warns', { validationActions: ['Warn', 'Audit'] });
    const answer = await requestOverHttp1(server, {
      method: 'POST',
      path: '/api/v1/namespaces/default/configmaps',
      user: server.admin,
      body: JSON.stringify({ metadata: { name: 'warned' } }),
    });
    expect(answer.status).toBe(201);
    expect(answer.headers['warning']).toBe(`299 - "Validation failed for ValidatingAdmissionPolicy 'warns' with binding 'warns-binding': a bad name"`);
  });

  test('take parameters, by name or selector', async () => {
    await policy('limit', {
      paramKind: { apiVersion: 'v1', kind: 'ConfigMap' },
      matchConditions: [{ name: 'not-a-parameter', expression: "!has(object.metadata.labels) || !('param' in object.metadata.labels)" }],
      validations: [{ expression: "size(object.metadata.name) <= int(params.data.most)" }],
    });
    await configMap('limit', { most: '5' }, { param: 'yes' });
    await bind('limit', { paramRef: { name: 'limit', namespace: 'default', parameterNotFoundAction: 'Deny' } });
    await configMap('fits');
    await expect(configMap('fits-not')).rejects.toMatchObject({ status: { code: 422, message: expect.stringContaining('failed expression: size(object.metadata.name)') } });
    await client.delete(configMaps, { namespace: 'default', name: 'limit' });
    await expect(configMap('none')).rejects.toMatchObject({ status: { message: expect.stringContaining('no params found for policy binding with `Deny` parameterNotFoundAction') } });
  });

  test('fail as their failure policy has it', async () => {
    const validations = [{ expression: "object.data.missing == 'x'" }];
    await policy('fails', { validations });
    await bind('fails');
    await expect(configMap('fail')).rejects.toMatchObject({
      status: { message: expect.stringContaining(`expression 'object.data.missing == 'x'' resulted in error: no such key: data`) },
    });
    await client.delete(policies, { name: 'fails' });
    await policy('fails', { failurePolicy: 'Ignore', validations });
    await configMap('ignored');
  });

  test('ask the authorizer and see the namespace', async () => {
    await policy('asks', {
      validations: [
        { expression: "authorizer.group('').resource('configmaps').namespace('default').check('create').allowed()" },
        { expression: "namespaceObject.metadata.name == 'default'" },
        { expression: "request.operation == 'CREATE' && request.userInfo.username == 'tester'" },
      ],
    });
    await bind('asks');
    await configMap('asked');
  });

  test('are refused where they make no sense, and warned of types that do not fit', async () => {
    await expect(policy('wrong', { validations: [{ expression: 'object.x' }, { expression: 'nothing' }] })).rejects.toMatchObject({
      status: {
        details: {
          causes: [
            { field: 'spec.validations[0].expression', message: 'Invalid value: "object.x": must evaluate to bool but got dyn' },
            { field: 'spec.validations[1].expression', message: expect.stringContaining("undeclared reference to 'nothing'") },
          ],
        },
      },
    });
    await client.create(policies, {
      metadata: { name: 'typed' },
      spec: {
        matchConstraints: { resourceRules: [{ operations: ['CREATE'], apiGroups: ['apps'], apiVersions: ['v1'], resources: ['deployments'] }] },
        validations: [{ expression: "object.spec.replicas > '1'" }, { expression: 'object.spec.maxRetries > 1' }, { expression: 'object.spec.replicas > 1' }],
      },
    } as any);
    await expect.poll(async () => ((await client.get(policies, { name: 'typed' })) as any).status?.typeChecking?.expressionWarnings).toMatchObject([
      { fieldRef: 'spec.validations[0].expression', warning: expect.stringContaining("apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_>_' applied to '(int, string)'") },
      { fieldRef: 'spec.validations[1].expression', warning: expect.stringContaining("undefined field 'maxRetries'") },
    ]);
  });
});

describe('mutating policies', () => {
  const mutation = (name: string, spec: object) =>
    client.create(mutatingPolicies, {
      metadata: { name },
      spec: {
        matchConstraints: { resourceRules: [{ operations: ['CREATE'], apiGroups: ['apps'], apiVersions: ['v1'], resources: ['deployments'] }] },
        reinvocationPolicy: 'Never',
        ...spec,
      },
    } as any);
  const bindMutation = (name: string) => client.create(mutatingBindings, { metadata: { name: `${name}-binding` }, spec: { policyName: name } } as any);

  test('change objects by apply configurations', async () => {
    await mutation('label', {
      mutations: [
        {
          patchType: 'ApplyConfiguration',
          applyConfiguration: {
            expression:
              'Object{metadata: Object.metadata{labels: {"env": "test"}}, spec: Object.spec{replicas: object.spec.replicas + 1, template: Object.spec.template{spec: Object.spec.template.spec{containers: [Object.spec.template.spec.containers{name: "side", image: "s"}]}}}}',
          },
        },
      ],
    });
    await bindMutation('label');
    const made = (await client.create(deployments, deployment('applied', 2))) as any;
    expect(made.metadata.labels).toEqual({ env: 'test' });
    expect(made.spec.replicas).toBe(3);
    expect(made.spec.template.spec.containers.map((c: any) => c.name)).toEqual(['c', 'side']);
  });

  test('change objects by JSON patches', async () => {
    await mutation('patch', {
      mutations: [
        {
          patchType: 'JSONPatch',
          jsonPatch: {
            expression: '[JSONPatch{op: "test", path: "/spec/replicas", value: 1}, JSONPatch{op: "replace", path: "/spec/replicas", value: 4}, JSONPatch{op: "add", path: "/metadata/annotations", value: {"a/b": jsonpatch.escapeKey("x/y")}}]',
          },
        },
      ],
    });
    await bindMutation('patch');
    const made = (await client.create(deployments, deployment('patched', 1))) as any;
    expect(made.spec.replicas).toBe(4);
    expect(made.metadata.annotations).toEqual({ 'a/b': 'x~1y' });
    // A test that fails says that the patch is not for this object.
    const other = (await client.create(deployments, deployment('other', 2))) as any;
    expect(other.spec.replicas).toBe(2);
    expect(other.metadata.annotations).toBeUndefined();
  });

  test('what they make of an object is held to its rules, metadata included', async () => {
    await mutation('bad', {
      mutations: [{ patchType: 'JSONPatch', jsonPatch: { expression: '[JSONPatch{op: "add", path: "/metadata/labels", value: {"not a label": "x"}}]' } }],
    });
    await bindMutation('bad');
    await expect(client.create(deployments, deployment('labelled', 1))).rejects.toMatchObject({
      status: { code: 422, reason: 'Invalid', message: expect.stringContaining('metadata.labels: Invalid value: "not a label": name part must consist of') },
    });
  });

  test('apply configurations must leave alone what is replaced whole', async () => {
    await mutation('atomic', {
      mutations: [
        {
          patchType: 'ApplyConfiguration',
          applyConfiguration: {
            expression:
              'Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{containers: [Object.spec.template.spec.containers{name: "c", args: ["x"]}]}}}}',
          },
        },
      ],
    });
    await bindMutation('atomic');
    await expect(client.create(deployments, deployment('whole', 1))).rejects.toMatchObject({
      status: {
        message: expect.stringContaining('error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.template.spec.containers[0].args'),
      },
    });
  });
});
