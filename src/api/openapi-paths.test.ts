import { expect, test } from 'vitest';
import { openapiV2, openapiV3, openapiV3Paths } from './openapi.ts';

test('operations have the names and tags that generated clients are named by', () => {
  const { paths } = openapiV2();
  const ids = (path: string) => Object.fromEntries(Object.entries<any>(paths[path]).flatMap(([method, o]) => (o.operationId ? [[method, o.operationId]] : [])));
  expect(ids('/api/v1/namespaces/{namespace}/pods')).toEqual({
    get: 'listCoreV1NamespacedPod',
    post: 'createCoreV1NamespacedPod',
    delete: 'deleteCoreV1CollectionNamespacedPod',
  });
  expect(ids('/api/v1/pods')).toEqual({ get: 'listCoreV1PodForAllNamespaces' });
  expect(ids('/apis/rbac.authorization.k8s.io/v1/watch/clusterroles/{name}')).toEqual({ get: 'watchRbacAuthorizationV1ClusterRole' });
  expect(ids('/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale')).toEqual({
    get: 'readAppsV1NamespacedDeploymentScale',
    put: 'replaceAppsV1NamespacedDeploymentScale',
    patch: 'patchAppsV1NamespacedDeploymentScale',
  });
  expect(paths['/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas'].get.tags).toEqual(['flowcontrolApiserver_v1']);
  const all = Object.values<any>(paths).flatMap((item) => Object.values<any>(item).flatMap((o) => o.operationId ?? []));
  expect(new Set(all).size).toBe(all.length);
});

test('what all methods of a path take is told once, and the rest with each', () => {
  const item = openapiV2().paths['/api/v1/namespaces/{namespace}/pods/{name}'];
  const names = (parameters: any[]) => parameters.map((p) => p.name);
  expect(names(item.parameters)).toEqual(['name', 'namespace', 'pretty']);
  expect(names(item.patch.parameters)).toEqual(['body', 'dryRun', 'fieldManager', 'fieldValidation', 'force']);
  expect(item.get.parameters).toBeUndefined();
  expect(item.delete.responses['202'].schema.$ref).toBe('#/definitions/io.k8s.api.core.v1.Pod');
});

test('every definition that a document refers to is in it', () => {
  const open = [['v2', openapiV2()], ...Object.keys(openapiV3Paths()).map((path) => [path, openapiV3(path)])] as [string, any][];
  for (const [title, document] of open) {
    const known = document.definitions ?? document.components.schemas ?? {};
    const refs = new Set([...JSON.stringify(document).matchAll(/"\$ref":"#\/(?:definitions|components\/schemas)\/([^"]+)"/g)].map((m) => m[1] as string));
    expect([...refs].filter((name) => !known[name]), title).toEqual([]);
  }
});

test('fields say what values they may have, lists of what their items may be', () => {
  const { definitions } = openapiV2();
  expect(definitions['io.k8s.api.core.v1.PodSpec'].properties.restartPolicy.enum).toEqual(['Always', 'Never', 'OnFailure']);
  expect(definitions['io.k8s.api.core.v1.PersistentVolumeClaimSpec'].properties.accessModes.items.enum).toContain('ReadWriteOnce');
  expect(definitions['io.k8s.api.core.v1.SeccompProfile']['x-kubernetes-unions']).toEqual([
    { discriminator: 'type', 'fields-to-discriminateBy': { localhostProfile: 'LocalhostProfile' } },
  ]);
});
