import { isIP } from 'node:net';
import { invalid } from '../../api/errors.ts';
import type { Service, ServiceSpec } from '../../api/generated/types.ts';
import { Findings } from '../../api/kinds/findings.ts';
import { addressProblem } from '../../api/kinds/names-validation.ts';

/** The one IP family of the cluster. */
const configured = 'IPv4';
const families = ['IPv4', 'IPv6'];
const policies = ['PreferDualStack', 'RequireDualStack', 'SingleStack'];
const familyOf = (ip: string) => (isIP(ip) === 6 ? 'IPv6' : 'IPv4');
const at = 'spec.ipFamilyPolicy';

/** What a client may say of addresses and families, before any is given. */
function relatedFields(spec: ServiceSpec): Findings {
  const found = new Findings();
  const ips = spec.clusterIPs ?? [];
  if (spec.clusterIP) {
    if (!ips.length) found.required('spec.clusterIPs');
    else if (ips[0] !== spec.clusterIP) found.invalid('spec.clusterIPs', ips, 'first value must match `clusterIP`');
  } else if (ips.length) found.invalid('spec.clusterIPs', ips, 'must be empty when `clusterIP` is not specified');
  (spec.ipFamilies ?? []).forEach((family, i, all) => {
    found.oneOf(`spec.ipFamilies[${i}]`, family, families);
    if (all.indexOf(family) < i) found.duplicate(`spec.ipFamilies[${i}]`, family);
  });
  if (spec.ipFamilyPolicy !== undefined) found.oneOf(at, spec.ipFamilyPolicy, policies);
  let wrong = false;
  ips.forEach((ip, i) => {
    if (i === 0 && ip === 'None') {
      if (ips.length === 1) return;
      wrong = true;
      found.invalid('spec.clusterIPs', ips, "'None' must be the first and only value");
    } else if (!isIP(ip)) {
      wrong = true;
      found.invalid(`spec.clusterIPs[${i}]`, ip, addressProblem);
    }
  });
  if (ips.length > 2) found.invalid('spec.clusterIPs', ips, 'may only hold up to 2 values');
  if (wrong) return found;
  if (ips.length > 1 && (ips.length > 2 || familyOf(ips[0]!) === familyOf(ips[1]!)))
    found.invalid('spec.clusterIPs', ips, 'may specify no more than one IP for each IP family');
  if (spec.clusterIP !== 'None')
    ips.forEach((ip, i) => {
      const family = spec.ipFamilies?.[i];
      if (family && families.includes(family) && familyOf(ip) !== family)
        found.invalid(`spec.clusterIPs[${i}]`, ip, `expected an ${family} value as indicated by \`ipFamilies[${i}]\``);
    });
  return found;
}

/** Completes a service's IP family fields in place; StatusError 422 where they contradict themselves or the cluster. */
export function fillFamilies(service: Service, old: Service | undefined): void {
  const { spec } = service;
  if (spec.type === 'ExternalName') return;
  const refuse = (found: Findings) => {
    if (found.errors.length) throw invalid({ group: '', kind: 'Service' }, service.metadata?.name ?? '', found.errors);
  };
  const unselected = spec.clusterIP === 'None' && !Object.keys(spec.selector ?? {}).length;
  spec.ipFamilyPolicy ??= old?.spec.ipFamilyPolicy ?? (unselected ? 'RequireDualStack' : 'SingleStack');
  refuse(relatedFields(spec));
  const found = new Findings();
  if (spec.ipFamilyPolicy === 'SingleStack') {
    if (old && spec.ipFamilies?.length === 2 && String(spec.ipFamilies) === String(old.spec.ipFamilies)) spec.ipFamilies = spec.ipFamilies.slice(0, 1);
    const several = "must be 'RequireDualStack' or 'PreferDualStack' when multiple";
    if (spec.clusterIPs?.length === 2) found.invalid(at, spec.ipFamilyPolicy, `${several} cluster IPs are specified`);
    if (spec.ipFamilies?.length === 2) found.invalid(at, spec.ipFamilyPolicy, `${several} IP families are specified`);
  }
  (spec.clusterIPs ?? []).forEach((ip, i, ips) => {
    if (ip === 'None' || i < (spec.ipFamilies?.length ?? 0)) return;
    if (familyOf(ip) !== configured) found.invalid(`spec.clusterIPs[${i}]`, ips, `${familyOf(ip)} is not configured on this cluster`);
    else spec.ipFamilies = [...(spec.ipFamilies ?? []), configured];
  });
  refuse(found);
  if (unselected) {
    spec.ipFamilies = spec.ipFamilies?.length ? spec.ipFamilies : [configured];
    // Nothing is given to it: it may have endpoints of any family.
    if (spec.ipFamilies.length < 2 && spec.ipFamilyPolicy !== 'SingleStack') spec.ipFamilies = [spec.ipFamilies[0]!, spec.ipFamilies[0] === 'IPv4' ? 'IPv6' : 'IPv4'];
    return;
  }
  if (spec.ipFamilyPolicy === 'RequireDualStack') found.invalid(at, spec.ipFamilyPolicy, 'this cluster is not configured for dual-stack services');
  (spec.ipFamilies ?? []).forEach((family, i) => {
    if (family !== configured) found.invalid(`spec.ipFamilies[${i}]`, family, 'not configured on this cluster');
  });
  refuse(found);
  if (!spec.ipFamilies?.length) spec.ipFamilies = [configured];
}
