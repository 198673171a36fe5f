import { expect, test } from 'vitest';
import { internalForm, internalList } from './internal-form.ts';

test('every field stands under its Go name, with null for what is not there', () => {
  expect(JSON.stringify(internalForm('core.PodResourceClaim', { name: 'gpu' }))).toBe('{"Name":"gpu","ResourceClaimName":null,"ResourceClaimTemplateName":null}');
  expect(JSON.stringify(internalForm('core.ServicePort', { port: 80, targetPort: 'http' }))).toBe(
    '{"Name":"","Protocol":"","AppProtocol":null,"Port":80,"TargetPort":"http","NodePort":0}',
  );
});

test('metadata stands beside its neighbours, and types of the versioned API as they are', () => {
  const shown = internalForm('core.PodTemplateSpec', { metadata: { labels: { b: '1' } }, spec: { containers: [{ name: 'a' }] } }) as any;
  expect(Object.keys(shown)).toEqual(['labels', 'Spec']);
  expect(shown.Spec.Containers[0]).toMatchObject({ Name: 'a', Image: '', Resources: { Limits: null, Requests: null, Claims: null } });
  expect(internalForm('batch.JobSpec', { selector: { matchLabels: { a: 'b' } } })).toMatchObject({ Selector: { matchLabels: { a: 'b' } }, Parallelism: null });
});

test('unions are structs', () => {
  const shown = internalForm('apiextensions.JSONSchemaProps', { items: { type: 'string' }, additionalProperties: true }) as any;
  expect(shown.Items.Schema.Type).toBe('string');
  expect(shown.Items.JSONSchemas).toBeNull();
  expect(shown.AdditionalProperties).toEqual({ Allows: true, Schema: null });
  expect(internalList('core.Toleration', undefined)).toBeNull();
});
