import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findKubectl, startTestServer, type TestServer } from '../../testing.ts';

const run = promisify(execFile);
let server: TestServer;
let folder: string;
let program: string;

beforeAll(async () => {
  program = await findKubectl();
  folder = mkdtempSync(join(tmpdir(), 'kumulus-crd-'));
  server = await startTestServer();
  writeFileSync(join(folder, 'kubeconfig'), server.kubeconfig(server.admin));
});
afterAll(async () => {
  await server?.stop();
  if (folder) rmSync(folder, { recursive: true, force: true });
});

async function attempt(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const env = { ...process.env, KUBECONFIG: join(folder, 'kubeconfig'), HOME: folder };
  try {
    return { code: 0, ...(await run(program, args, { env, timeout: 25_000, maxBuffer: 64 * 1024 * 1024 })) };
  } catch (error) {
    const failed = error as { code?: number; stdout?: string; stderr?: string };
    return { code: failed.code ?? -1, stdout: failed.stdout ?? '', stderr: failed.stderr ?? String(error) };
  }
}
async function kubectl(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await attempt(...args);
  if (code !== 0) throw new Error(`kubectl ${args.join(' ')}: ${stderr}`);
  return stdout;
}
function manifest(text: string): string {
  const path = join(folder, `${Math.random().toString(36).slice(2)}.yaml`);
  writeFileSync(path, text);
  return path;
}

const crontabs = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: crontabs.stable.example.com}
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: crontabs, singular: crontab, kind: CronTab, shortNames: [ct], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas, labelSelectorPath: .status.labelSelector}
    selectableFields: [{jsonPath: .spec.cronSpec}]
    additionalPrinterColumns:
    - {name: Spec, type: string, jsonPath: .spec.cronSpec, description: The cron spec}
    - {name: Replicas, type: integer, jsonPath: .spec.replicas}
    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
    schema:
      openAPIV3Schema:
        type: object
        description: A table of jobs.
        properties:
          spec:
            type: object
            required: [cronSpec]
            properties:
              cronSpec: {type: string, pattern: '^(\\d+|\\*)(/\\d+)?(\\s+(\\d+|\\*)(/\\d+)?){4}$', description: When to run.}
              image: {type: string, default: busybox}
              replicas: {type: integer, minimum: 1, maximum: 10, default: 1}
              port: {x-kubernetes-int-or-string: true}
              free: {type: object, x-kubernetes-preserve-unknown-fields: true}
          status:
            type: object
            properties:
              replicas: {type: integer}
              labelSelector: {type: string}
`;
const crontab = (name: string, spec: string) => `
apiVersion: stable.example.com/v1
kind: CronTab
metadata: {name: ${name}, namespace: default}
spec: ${spec}
`;

describe('custom resources through kubectl', () => {
  test('a definition is established, and its objects are served at once', async () => {
    expect(await kubectl('apply', '-f', manifest(crontabs))).toBe('customresourcedefinition.apiextensions.k8s.io/crontabs.stable.example.com created\n');
    await kubectl('wait', '--for=condition=established', 'crd/crontabs.stable.example.com', '--timeout=10s');
    expect(await kubectl('apply', '-f', manifest(crontab('one', '{cronSpec: "* * * * */5", free: {a: {b: 1}}, extra: 1}')), '--validate=false')).toBe(
      'crontab.stable.example.com/one created\n',
    );
    const object = JSON.parse(await kubectl('get', 'ct', 'one', '-o', 'json'));
    expect(object.spec).toEqual({ cronSpec: '* * * * */5', image: 'busybox', replicas: 1, free: { a: { b: 1 } } });
    expect(object.metadata.generation).toBe(1);
    expect(await kubectl('get', 'ct')).toMatch(/^NAME +SPEC +REPLICAS +AGE\none +\* \* \* \* \*\/5 +1 +\S+\n$/);
    expect(await kubectl('get', 'all')).toContain('crontab.stable.example.com/one');
    expect(await kubectl('api-resources', '--api-group=stable.example.com')).toMatch(/crontabs +ct +stable.example.com\/v1 +true +CronTab/);
  });

  test('objects are held to the schema, in kube-apiserver\'s words', async () => {
    const wrong = await attempt('create', '-f', manifest(crontab('bad', '{cronSpec: "x", replicas: 11}')));
    expect(wrong.code).toBe(1);
    expect(wrong.stderr).toContain('The CronTab "bad" is invalid:');
    expect(wrong.stderr).toContain('* spec.cronSpec: Invalid value: "x": spec.cronSpec in body should match \'^(\\d+|\\*)(/\\d+)?(\\s+(\\d+|\\*)(/\\d+)?){4}$\'');
    expect(wrong.stderr).toContain('* spec.replicas: Invalid value: 11: spec.replicas in body should be less than or equal to 10');
    expect((await attempt('create', '-f', manifest(crontab('bad', '{cronSpec: 5}')))).stderr).toContain(
      'spec.cronSpec: Invalid value: "integer": spec.cronSpec in body must be of type string: "integer"',
    );
    expect((await attempt('create', '-f', manifest(crontab('bad', '{image: x}')))).stderr).toContain('spec.cronSpec: Required value');
    expect((await attempt('create', '-f', manifest(crontab('bad', '{cronSpec: "* * * * *", other: 1}')))).stderr).toContain(
      'strict decoding error: unknown field "spec.other"',
    );
  });

  test('status and scale are subresources of their own', async () => {
    await kubectl('patch', 'ct', 'one', '--subresource=status', '--type=merge', '-p', '{"status":{"replicas":3,"labelSelector":"a=b"},"spec":{"replicas":9}}');
    const object = JSON.parse(await kubectl('get', 'ct', 'one', '-o', 'json'));
    expect(object.status).toEqual({ replicas: 3, labelSelector: 'a=b' });
    expect(object.spec.replicas).toBe(1);
    expect(await kubectl('scale', 'ct/one', '--replicas=4')).toBe('crontab.stable.example.com/one scaled\n');
    const scale = JSON.parse(await kubectl('get', '--raw', '/apis/stable.example.com/v1/namespaces/default/crontabs/one/scale'));
    expect(scale.spec).toEqual({ replicas: 4 });
    expect(scale.status).toEqual({ replicas: 3, selector: 'a=b' });
    expect(JSON.parse(await kubectl('get', 'ct', 'one', '-o', 'json')).metadata.generation).toBe(2);
  });

  test('field selectors, explain and OpenAPI know the fields', async () => {
    expect(await kubectl('get', 'ct', '--field-selector', 'spec.cronSpec=* * * * */5', '-o', 'name')).toBe('crontab.stable.example.com/one\n');
    expect(await kubectl('get', 'ct', '--field-selector', 'spec.cronSpec=no', '-o', 'name')).toBe('');
    expect((await attempt('get', 'ct', '--field-selector', 'spec.image=no')).stderr).toContain('field label not supported: spec.image');
    const text = await kubectl('explain', 'crontab.spec');
    expect(text).toContain('cronSpec\t<string> -required-\n    When to run.');
    const document = JSON.parse(await kubectl('get', '--raw', '/openapi/v2'));
    const schema = document.definitions['com.example.stable.v1.CronTab'];
    expect(schema['x-kubernetes-group-version-kind']).toEqual([{ group: 'stable.example.com', kind: 'CronTab', version: 'v1' }]);
    expect(schema.properties.spec.properties.cronSpec.type).toBe('string');
    expect(document.definitions['com.example.stable.v1.CronTabList'].required).toEqual(['items']);
  });

  test('names that are taken are not accepted, and the definition is not served', async () => {
    const other = crontabs.replaceAll('crontabs', 'cronjobs2').replaceAll('kind: CronTab', 'kind: CronOther');
    await kubectl('create', '-f', manifest(other));
    await kubectl('wait', '--for=condition=NamesAccepted=false', 'crd/cronjobs2.stable.example.com', '--timeout=10s');
    const crd = JSON.parse(await kubectl('get', 'crd', 'cronjobs2.stable.example.com', '-o', 'json'));
    expect(crd.status.conditions).toMatchObject([
      { type: 'NamesAccepted', status: 'False', reason: 'ShortNamesConflict', message: '"ct" is already in use' },
      { type: 'Established', status: 'False', reason: 'NotAccepted' },
    ]);
    await kubectl('delete', 'crd', 'cronjobs2.stable.example.com');
  });

  test('a wrong definition is refused', async () => {
    const refused = await attempt('create', '-f', manifest(crontabs.replaceAll('crontabs', 'others').replace('image: {type: string, default: busybox}', 'image: {default: 1}')));
    expect(refused.stderr).toContain('spec.validation.openAPIV3Schema.properties[spec].properties[image].type: Required value: must not be empty for specified object fields');
  });

  test('a new version of the schema holds at once, and objects are completed as they are read', async () => {
    await kubectl('apply', '-f', manifest(crontabs.replace('image: {type: string', 'zone: {type: string, default: a}\n              image: {type: string')));
    await expect.poll(async () => JSON.parse(await kubectl('get', 'ct', 'one', '-o', 'json')).spec.zone).toBe('a');
  });

  test('with the definition its objects go', async () => {
    expect(await kubectl('delete', 'crd', 'crontabs.stable.example.com')).toContain('deleted');
    expect((await attempt('get', 'ct')).stderr).toContain('the server could not find the requested resource');
    await kubectl('apply', '-f', manifest(crontabs));
    await kubectl('wait', '--for=condition=established', 'crd/crontabs.stable.example.com', '--timeout=10s');
    expect(await kubectl('get', 'ct', '-A', '-o', 'name')).toBe('');
  });
});

const ruled = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: ranges.rules.example.com}
spec:
  group: rules.example.com
  scope: Namespaced
  names: {plural: ranges, kind: Range}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            x-kubernetes-validations:
            - {rule: 'self.least <= self.most', messageExpression: '"least is above %d".format([self.most])', fieldPath: .least, reason: FieldValueForbidden}
            - {rule: 'self.kind == oldSelf.kind', message: kind is immutable}
            properties:
              least: {type: integer}
              most: {type: integer}
              kind: {type: string, maxLength: 20, default: a}
              names: {type: array, maxItems: 10, x-kubernetes-list-type: set, items: {type: string, maxLength: 10, x-kubernetes-validations: [{rule: 'self != "bad"'}]}}
`;
const range = (name: string, spec: string) => `
apiVersion: rules.example.com/v1
kind: Range
metadata: {name: ${name}, namespace: default}
spec: ${spec}
`;

describe('rules in CEL', () => {
  test('objects must keep them, transitions included', async () => {
    await kubectl('apply', '-f', manifest(ruled));
    await kubectl('wait', '--for=condition=established', 'crd/ranges.rules.example.com', '--timeout=10s');
    const refused = await attempt('create', '-f', manifest(range('x', '{least: 5, most: 1, names: [good, bad]}')));
    expect(refused.stderr).toContain('* spec.least: Forbidden: least is above 1');
    expect(refused.stderr).toContain('* spec.names[1]: Invalid value: "bad": failed rule: self != "bad"');
    await kubectl('create', '-f', manifest(range('x', '{least: 1, most: 5}')));
    expect((await attempt('apply', '-f', manifest(range('x', '{least: 1, most: 5, kind: b}')))).stderr).toContain('spec: Invalid value: kind is immutable');
  });

  test('what an update leaves wrong may stay wrong', async () => {
    const without = ruled.replace(`, x-kubernetes-validations: [{rule: 'self != "bad"'}]`, '');
    await kubectl('apply', '-f', manifest(without));
    await expect.poll(async () => (await attempt('create', '-f', manifest(range('old', '{least: 1, most: 5, names: [bad]}')))).code).toBe(0);
    await kubectl('apply', '-f', manifest(ruled));
    await expect.poll(async () => (await attempt('create', '-f', manifest(range('new', '{least: 1, most: 5, names: [bad]}')))).code).toBe(1);
    expect(await kubectl('patch', 'range', 'old', '--type=merge', '-p', '{"spec":{"most":6}}')).toContain('patched');
    expect((await attempt('patch', 'range', 'old', '--type=merge', '-p', '{"spec":{"names":["bad","more"]}}')).stderr).toContain('failed rule');
  });

  test('definitions with wrong or costly rules are refused', async () => {
    const wrong = (rule: string) => attempt('create', '-f', manifest(ruled.replaceAll('ranges', 'others').replace('self.least <= self.most', rule)));
    expect((await wrong('self.nothing == 1')).stderr).toContain("compilation failed: ERROR: <input>:1:5: undefined field 'nothing'\n | self.nothing == 1\n | ....^");
    expect((await wrong('self.least')).stderr).toContain('cel expression must evaluate to a bool');
    const costly = ruled.replaceAll('ranges', 'others').replace('maxItems: 10, ', '').replace('self.least <= self.most', 'self.names.all(x, self.names.all(y, x == y))');
    expect((await attempt('create', '-f', manifest(costly))).stderr).toContain('estimated rule cost exceeds budget by factor of more than 100x');
  });
});
