import type { FieldError } from '../errors.ts';
import type { KindStrategy } from '../scheme.ts';
import { pathSegmentProblems, subdomainProblems } from '../validation.ts';
import { Findings } from './findings.ts';
import { rfc1035Problems } from './names-validation.ts';
import { specAndStatus } from './spec-and-status.ts';

function validate(o: any): FieldError[] {
  const found = new Findings();
  const s = o.spec ?? {};
  const { group = '', version = '' } = s;
  const name = o.metadata?.name;
  const wanted = `${version}.${group}`;
  if (name && !pathSegmentProblems(name).length && name !== wanted)
    found.invalid('metadata.name', name, `must be \`spec.version+"."+spec.group\`: ${JSON.stringify(wanted)}`);
  if (!group && version !== 'v1') found.required('spec.group', 'only v1 may have an empty group and it better be legacy kube');
  if (group) found.problems('spec.group', group, subdomainProblems);
  found.problems('spec.version', version, rfc1035Problems);
  for (const [field, most] of [
    ['groupPriorityMinimum', 20_000],
    ['versionPriority', 1000],
  ] as const) {
    const value = s[field] ?? 0;
    if (value <= 0 || value > most) found.invalid(`spec.${field}`, value, `must be positive and less than ${most}`);
  }
  const bundle = Buffer.from(s.caBundle ?? '', 'base64').length;
  if (!s.service) {
    if (bundle) found.invalid('spec.caBundle', `${bundle} bytes`, 'local APIServices may not have a caBundle');
    if (s.insecureSkipTLSVerify) found.invalid('spec.insecureSkipTLSVerify', true, 'local APIServices may not have insecureSkipTLSVerify');
    return found.errors;
  }
  if (!s.service.namespace) found.required('spec.service.namespace');
  if (!s.service.name) found.required('spec.service.name');
  const { port } = s.service;
  if (!(port >= 1 && port <= 65_535)) found.invalid('spec.service.port', port, 'port is not valid: must be between 1 and 65535, inclusive');
  if (s.insecureSkipTLSVerify && bundle) found.invalid('spec.insecureSkipTLSVerify', true, 'may not be true if caBundle is present');
  return found.errors;
}

export const apiService: KindStrategy = {
  validateName: pathSegmentProblems,
  default(o) {
    if (o.spec?.service) o.spec.service.port ??= 443;
  },
  prepareForCreate(o, ctx) {
    o.status = {};
    // One that this server answers itself needs nobody to look whether it does.
    if (!o.spec?.service)
      o.status.conditions = [
        { type: 'Available', status: 'True', lastTransitionTime: ctx.now, reason: 'Local', message: 'Local APIServices are always available' },
      ];
  },
  prepareForUpdate(o, old) {
    o.status = old.status;
  },
  prepareForStatusUpdate: specAndStatus.prepareForStatusUpdate,
  validate,
};
