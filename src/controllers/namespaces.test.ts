import { generateKeyPairSync } from 'node:crypto';
import { decodeJwt } from 'jose';
import { afterEach, expect, test } from 'vitest';
import { resources } from '../api/generated/resources.ts';
import { startRootCaPublisher } from './rootca.ts';
import { startServiceAccountController } from './serviceaccount.ts';
import { startTokensController } from './serviceaccount-tokens.ts';
import { eventually, type TestContext, testContext } from './testing.ts';

let context: TestContext;
afterEach(() => context?.stop());

const namespace = (name: string, phase = 'Active') => ({ apiVersion: 'v1', kind: 'Namespace', metadata: { name }, spec: {}, status: { phase } });

test('every namespace has a ServiceAccount and the CA, also after they were taken away', async () => {
  context = testContext([namespace('a'), namespace('gone', 'Terminating')]);
  startServiceAccountController(context);
  startRootCaPublisher(context, 'PEM');
  const account = () => context.client.objects(resources.serviceaccounts).map((o) => `${o.metadata.namespace}/${o.metadata.name}`);
  const map = () => context.client.objects(resources.configmaps).find((o) => o.metadata.namespace === 'a');
  await eventually('both', () => account().length === 1 && map()?.data?.['ca.crt'] === 'PEM');
  expect(account()).toEqual(['a/default']);
  await context.client.delete(resources.serviceaccounts, { namespace: 'a', name: 'default' });
  await context.client.patch(resources.configmaps, { namespace: 'a', name: 'kube-root-ca.crt' }, 'merge', { data: { 'ca.crt': 'forged' } });
  await eventually('both again', () => account().length === 1 && map()?.data?.['ca.crt'] === 'PEM');
});

test('a token Secret is filled, and goes with its account', async () => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const account = { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 's', namespace: 'a', uid: 'u' } };
  const secret = {
    apiVersion: 'v1',
    kind: 'Secret',
    type: 'kubernetes.io/service-account-token',
    metadata: { name: 't', namespace: 'a', annotations: { 'kubernetes.io/service-account.name': 's' } },
  };
  context = testContext([account, secret]);
  startTokensController(context, privateKey.export({ type: 'pkcs8', format: 'pem' }) as string, 'PEM');
  const token = await eventually('the token', () => context.client.objects(resources.secrets)[0]?.data?.['token']);
  expect(decodeJwt(Buffer.from(token, 'base64').toString())).toMatchObject({
    sub: 'system:serviceaccount:a:s',
    'kubernetes.io/serviceaccount/service-account.uid': 'u',
  });
  await context.client.delete(resources.serviceaccounts, { namespace: 'a', name: 's' });
  await eventually('the deletion', () => context.client.objects(resources.secrets).length === 0);
});
