/**
 * Generates src/api/generated/internal-types.ts from the Go declarations of upstream's internal types:
 *
 *     node bin/node24.js scripts/generate-internal-types.ts MODULES VERSION
 *
 * MODULES is a folder k8s.io of a Go module cache, VERSION that of the modules in it, such as v0.37.2. Messages of validation show
 * values as JSON of these types, which carry no tags: names as Go writes them, every field, in the order of declaration. Taken from
 * there are names, order and kinds of fields.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const [modules, version] = process.argv.slice(2);
if (!modules || !version) {
  console.error('usage: generate-internal-types.ts MODULES VERSION');
  process.exit(2);
}

/** Types that messages show. What they are made of comes with them. */
const roots = [
  ...['core.PodTemplateSpec', 'core.PersistentVolumeClaim', 'core.ServicePort', 'core.VolumeNodeAffinity', 'core.ObjectReference', 'core.EventSource', 'core.EventSeries'],
  ...['core.ScopeSelector', 'core.LimitRangeItem', 'core.NodeSpec', 'core.PersistentVolumeSpec', 'core.EndpointAddress', 'core.EndpointPort', 'core.Preconditions'],
  ...['apps.DeploymentStrategy', 'apps.StatefulSetUpdateStrategy', 'apps.DaemonSetUpdateStrategy', 'apps.RollingUpdateStatefulSetStrategy', 'batch.JobSpec'],
  ...['policy.PodDisruptionBudgetSpec', 'autoscaling.HorizontalPodAutoscalerSpec', 'networking.IngressSpec', 'networking.NetworkPolicySpec', 'networking.ParentReference'],
  ...['storage.CSINodeDriver', 'storage.VolumeAttachmentSpec', 'rbac.RoleRef', 'rbac.PolicyRule', 'rbac.Subject', 'certificates.CertificateSigningRequestSpec'],
  ...['certificates.CertificateSigningRequestCondition', 'certificates.PodCertificateRequestSpec', 'certificates.PodCertificateRequestStatus', 'discovery.Endpoint'],
  ...['discovery.EndpointPort', 'flowcontrol.FlowSchemaSpec', 'flowcontrol.PriorityLevelConfigurationSpec', 'node.RuntimeClass', 'scheduling.WorkloadSpec'],
  ...['resource.DeviceClassSpec', 'resource.ResourceClaimSpec', 'resource.ResourceClaimStatus', 'resource.ResourceClaimTemplateSpec', 'resource.ResourceSliceSpec'],
  ...['admissionregistration.ValidatingAdmissionPolicySpec', 'admissionregistration.ValidatingAdmissionPolicyBindingSpec'],
  ...['admissionregistration.MutatingAdmissionPolicySpec', 'admissionregistration.MutatingAdmissionPolicyBindingSpec', 'admissionregistration.MutatingWebhook'],
  ...['admissionregistration.ValidatingWebhook', 'apiextensions.CustomResourceDefinitionVersion', 'apiextensions.CustomResourceValidation'],
];

/** Packages of internal types, by the name they have here; the last is of the versioned types beside them. */
const packages: Record<string, [folder: string, versioned: string]> = {
  apiextensions: [`apiextensions-apiserver@${version}/pkg/apis/apiextensions`, `apiextensions-apiserver@${version}/pkg/apis/apiextensions/v1`],
};
const versionsOf: Record<string, string> = { autoscaling: 'autoscaling/v2', scheduling: 'scheduling/v1alpha3' };
for (const name of readdirSync(join(modules, `kubernetes@${version.replace('v0', 'v1')}/pkg/apis`)))
  if (!name.includes('.') && name !== 'OWNERS')
    packages[name] = [`kubernetes@${version.replace('v0', 'v1')}/pkg/apis/${name}`, `api@${version}/${versionsOf[name] ?? `${name}/v1`}`];

interface GoField {
  name: string;
  type: string;
  json: string | undefined;
}
interface GoPackage {
  structs: Map<string, GoField[]>;
  named: Map<string, string>;
  imports: Map<string, string>;
}
const loaded = new Map<string, GoPackage>();

function load(folder: string): GoPackage {
  const known = loaded.get(folder);
  if (known) return known;
  const result: GoPackage = { structs: new Map(), named: new Map(), imports: new Map() };
  loaded.set(folder, result);
  const path = join(modules!, folder);
  for (const file of existsSync(path) ? readdirSync(path) : []) {
    if (!file.endsWith('.go') || file.endsWith('_test.go') || file.startsWith('zz_') || file.startsWith('generated')) continue;
    const text = readFileSync(join(path, file), 'utf8').replace(/\/\*[\s\S]*?\*\//g, '');
    for (const m of text.matchAll(/^\t(?:(\w+) )?"([^"]+)"$/gm)) result.imports.set(m[1] ?? (m[2] as string).split('/').at(-1)!, m[2] as string);
    for (const m of text.matchAll(/^type (\w+) struct \{\n([\s\S]*?)^\}/gm)) {
      const fields: GoField[] = [];
      for (const line of m[2]!.split('\n')) {
        const code = line.replace(/\/\/.*/, '').trim();
        const f = /^(?:(\w+)\s+)?([\w.*[\]{}]+)(?:\s+`([^`]*)`)?$/.exec(code);
        if (!f) continue;
        const json = /json:"([^"]*)"/.exec(f[3] ?? '')?.[1];
        fields.push({ name: f[1] ?? '', type: f[2]!, json });
      }
      result.structs.set(m[1]!, fields);
    }
    for (const m of text.matchAll(/^type (\w+) =? ?((?:\[\]|map\[[\w.]+\])?\*?[\w.{}]+)$/gm)) if (m[2] !== 'struct') result.named.set(m[1]!, m[2]!);
    for (const m of text.matchAll(/^\t(\w+) (string|int32|int64|bool)$/gm)) if (!result.named.has(m[1]!)) result.named.set(m[1]!, m[2]!);
  }
  return result;
}

const scalars: Record<string, string> = { string: 's', int: 'i', int32: 'i', int64: 'i', uint32: 'i', float64: 'i', bool: 'b', 'interface{}': 'x' };
const special: Record<string, string> = { Quantity: 'q', IntOrString: 'o', Time: 't', MicroTime: 't', RawExtension: 'r', Object: 'x', Duration: 'd', UID: 's' };
const missing: string[] = [];
const needed = new Set<string>();
const done: string[] = [];

function packageOf(here: string, alias: string): string | undefined {
  const path = load(packages[here]![0]).imports.get(alias);
  return Object.keys(packages).find((name) => path?.endsWith(`pkg/apis/${name}`));
}

/** A type's code: see internal-form.ts. */
function codeOf(here: string, type: string): string {
  if (type.startsWith('*')) return `*${codeOf(here, type.slice(1))}`;
  if (type === '[]byte') return 'y';
  if (type.startsWith('[]')) return `[]${codeOf(here, type.slice(2))}`;
  if (type.startsWith('map[')) return `{}${codeOf(here, type.slice(type.indexOf(']') + 1))}`;
  const scalar = scalars[type];
  if (scalar) return scalar;
  const [alias, name] = type.includes('.') ? (type.split('.') as [string, string]) : ['', type];
  const where = alias ? packageOf(here, alias) : here;
  if (!where) return special[name] ?? 'x';
  const pkg = load(packages[where]![0]);
  const named = pkg.structs.has(name) ? undefined : pkg.named.get(name);
  if (named) return codeOf(where, named);
  if (!pkg.structs.has(name)) {
    missing.push(`type ${where}.${name}`);
    return 'x';
  }
  need(`${where}.${name}`);
  return `@${where}.${name}`;
}

/** Names that JSON has for fields whose Go names differ between internal and versioned types; a dot is the object itself. */
const renamed: Record<string, string> = { 'admissionregistration.NamedRuleWithOperations.RuleWithOperations': '.' };

function fieldsOf(full: string): string[] {
  const [here, struct] = full.split('.') as [string, string];
  const fields = load(packages[here]![0]).structs.get(struct) ?? [];
  const versioned = load(packages[here]![1]).structs.get(struct) ?? [];
  return fields.flatMap((f): string[] => {
    if (!f.name) {
      if (f.type.endsWith('TypeMeta')) return [];
      if (f.type.endsWith('ObjectMeta') || f.type.endsWith('ListMeta')) return ['=metadata m'];
      const [alias, name] = f.type.replace('*', '').includes('.') ? (f.type.split('.') as [string, string]) : ['', f.type];
      return fieldsOf(`${alias ? packageOf(here, alias) : here}.${name}`);
    }
    const [tagged, ...options] = f.json?.split(',') ?? [];
    const same =
      versioned.find((v) => v.name === f.name && v.json) ?? versioned.find((v) => v.json?.split(',')[0]?.toLowerCase() === f.name.toLowerCase());
    const json = renamed[`${full}.${f.name}`] ?? same?.json?.split(',')[0];
    if (json === undefined) missing.push(`field ${full}.${f.name}`);
    const name = tagged || f.name;
    const plain = name[0]!.toLowerCase() + name.slice(1);
    const omitted = options.some((o) => o.startsWith('omit')) ? ' -' : '';
    return [`${name}${json === undefined || json === plain ? '' : `=${json}`} ${codeOf(here, f.type)}${omitted}`];
  });
}

function need(full: string): void {
  if (needed.has(full)) return;
  needed.add(full);
  done.push(`${full}|${fieldsOf(full).join(';')}`);
}
for (const root of roots) need(root);
done.sort();
writeFileSync(
  join(import.meta.dirname, '../src/api/generated/internal-types.ts'),
  `// Generated by scripts/generate-internal-types.ts. Do not edit.\n/** type|fields as Go names them, with their JSON names where those are not the same but for case, and codes: see internal-form.ts. */\nexport const internalTypes = ${JSON.stringify(done).replaceAll('","', '",\n"')};\n`,
);
console.log(`${done.length} types; without a match:\n${[...new Set(missing)].join('\n')}`);
