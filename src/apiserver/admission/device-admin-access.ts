import { invalid } from '../../api/errors.ts';
import type { DeviceClaim, DeviceRequestAllocationResult } from '../../api/generated/types.ts';
import type { AdmissionPlugin, AdmissionRequest } from './chain.ts';

const label = 'resource.kubernetes.io/admin-access';

/** Access to devices that others have is for namespaces that an administrator has labelled so. Upstream checks it where it validates claims. */
export const deviceAdminAccess: AdmissionPlugin = {
  name: 'DRAAdminAccess',
  async validate(request) {
    if (request.group !== 'resource.k8s.io') return;
    const field = fieldThatAsks(request);
    if (!field) return;
    const labels = () => request.api.registry.cache('', 'v1', 'namespaces').get(request.namespace)?.labels;
    if (labels()?.[label] === 'true') return;
    // The label may have been set a moment ago.
    await request.api.hub.current(request.call.signal);
    if (labels()?.[label] === 'true') return;
    const detail = `admin access to devices requires the \`${label}: true\` label on the containing namespace`;
    throw invalid(request.call.target.served, request.name, [{ type: 'FieldValueForbidden', field, detail }]);
  },
};

function fieldThatAsks({ resource, subresource, operation, object, old }: AdmissionRequest): string | undefined {
  if (operation === 'CREATE' && resource === 'resourceclaims') return requestThatAsks(object?.spec?.devices);
  if (operation === 'CREATE' && resource === 'resourceclaimtemplates') return requestThatAsks(object?.spec?.spec?.devices);
  if (operation !== 'UPDATE' || resource !== 'resourceclaims' || subresource !== 'status') return undefined;
  const results = (claim: any): DeviceRequestAllocationResult[] => claim?.status?.allocation?.devices?.results ?? [];
  if (results(old).some((r) => r.adminAccess)) return undefined;
  const index = results(object).findIndex((r) => r.adminAccess);
  return index < 0 ? undefined : `status.allocation.devices.results[${index}].adminAccess`;
}

function requestThatAsks(devices: DeviceClaim | undefined): string | undefined {
  // Before v1, what `exactly` holds stood in the request itself.
  const index = (devices?.requests ?? []).findIndex((r) => r.exactly?.adminAccess || (r as { adminAccess?: boolean }).adminAccess);
  return index < 0 ? undefined : `spec.devices.requests[${index}].adminAccess`;
}
