import { parse } from 'yaml';
import { CompilationError, Environment, type Program } from '../../api/cel/environment.ts';
import { t } from '../../api/cel/types.ts';
import { parseGoDuration } from '../../api/go-duration.ts';

export type AuthorizerSpec = { type: 'AlwaysAllow' | 'AlwaysDeny' | 'Node' | 'RBAC' } | WebhookSpec;

/** A webhook of AuthorizationConfiguration, its times in milliseconds. */
export interface WebhookSpec {
  type: 'Webhook';
  name: string;
  /** A kubeconfig; the server itself is not reached in this way (InClusterConfig). */
  kubeConfigFile: string;
  timeoutMs: number;
  /** How long answers are remembered; 0 for not at all. */
  authorizedMs: number;
  unauthorizedMs: number;
  version: 'v1' | 'v1beta1';
  failurePolicy: 'NoOpinion' | 'Deny';
  /** All must hold for the webhook to be asked. */
  matchConditions: Program[];
}

const attributes = {
  namespace: t.string,
  verb: t.string,
  group: t.string,
  version: t.string,
  resource: t.string,
  subresource: t.string,
  name: t.string,
};
const requirements = t.list(t.object('kubernetes.SelectorRequirement', { key: t.string, operator: t.string, values: t.list(t.string) }));
const selector = (name: string) => t.object(name, { rawSelector: t.string, requirements });
const environment = new Environment({
  variables: {
    request: t.object('kubernetes.SubjectAccessReviewSpec', {
      resourceAttributes: t.object('kubernetes.ResourceAttributes', {
        ...attributes,
        fieldSelector: selector('kubernetes.FieldSelectorAttributes'),
        labelSelector: selector('kubernetes.LabelSelectorAttributes'),
      }),
      nonResourceAttributes: t.object('kubernetes.NonResourceAttributes', { path: t.string, verb: t.string }),
      user: t.string,
      groups: t.list(t.string),
      extra: t.map(t.string, t.list(t.string)),
      uid: t.string,
    }),
  },
});

const types = ['AlwaysAllow', 'AlwaysDeny', 'Node', 'RBAC', 'Webhook'];

/** Reads an AuthorizationConfiguration, YAML or JSON. Throws an error that lists all that is wrong, with paths. */
export function parseAuthorizationConfiguration(text: string): AuthorizerSpec[] {
  const config = parse(text);
  if (config?.kind !== 'AuthorizationConfiguration' || !/^apiserver\.config\.k8s\.io\/v1(alpha1|beta1)?$/.test(config.apiVersion))
    throw new Error('not an AuthorizationConfiguration of apiserver.config.k8s.io/v1');
  const problems: string[] = [];
  const listed: any[] = config.authorizers ?? [];
  if (listed.length === 0) problems.push('authorizers: Required value: at least one authorization mode must be defined');
  const specs = listed.map((one, i) => {
    const path = `authorizers[${i}]`;
    if (!one?.type) problems.push(`${path}.type: Required value`);
    else if (!types.includes(one.type)) problems.push(`${path}.type: Unsupported value: "${one.type}": supported values: ${types.map((x) => `"${x}"`).join(', ')}`);
    else if (one.type !== 'Webhook' && listed.findIndex((o) => o?.type === one.type) < i) problems.push(`${path}.type: Duplicate value: "${one.type}"`);
    if (!one?.name) problems.push(`${path}.name: Required value`);
    else if (listed.findIndex((o) => o?.name === one.name) < i) problems.push(`${path}.name: Duplicate value: "${one.name}"`);
    if (one?.type !== 'Webhook') {
      if (one?.webhook) problems.push(`${path}.webhook: Invalid value: "non-null": may only be specified when type=Webhook`);
      return { type: one?.type } as AuthorizerSpec;
    }
    if (!one.webhook) problems.push(`${path}.webhook: Required value: required when type=Webhook`);
    return readWebhook(one.name, one.webhook ?? {}, `${path}.webhook`, problems);
  });
  if (problems.length) throw new Error(problems.join('; '));
  return specs;
}

function readWebhook(name: string, w: any, path: string, problems: string[]): WebhookSpec {
  const time = (field: string, fallback: number | undefined, most = Infinity): number => {
    if (w[field] === undefined) {
      if (fallback === undefined) problems.push(`${path}.${field}: Required value`);
      return fallback ?? 0;
    }
    const ms = parseGoDuration(String(w[field]));
    if (ms === undefined || ms <= 0 || ms > most) problems.push(`${path}.${field}: Invalid value: "${w[field]}": must be > 0s${most < Infinity ? ` and <= ${most / 1000}s` : ''}`);
    return ms ?? 0;
  };
  const oneOf = (field: string, values: string[]) => {
    if (!w[field]) problems.push(`${path}.${field}: Required value`);
    else if (!values.includes(w[field])) problems.push(`${path}.${field}: Unsupported value: "${w[field]}": supported values: ${values.map((v) => `"${v}"`).join(', ')}`);
    return w[field];
  };
  const { connectionInfo: connection = {}, matchConditions = [] } = w;
  if (connection.type !== 'KubeConfigFile')
    problems.push(`${path}.connectionInfo.type: ${connection.type ? `Unsupported value: "${connection.type}": supported values: "KubeConfigFile"` : 'Required value'}`);
  else if (!connection.kubeConfigFile) problems.push(`${path}.connectionInfo.kubeConfigFile: Required value`);
  else if (!connection.kubeConfigFile.startsWith('/'))
    problems.push(`${path}.connectionInfo.kubeConfigFile: Invalid value: "${connection.kubeConfigFile}": must be an absolute path`);
  if (matchConditions.length && w.matchConditionSubjectAccessReviewVersion !== 'v1')
    problems.push(
      w.matchConditionSubjectAccessReviewVersion
        ? `${path}.matchConditionSubjectAccessReviewVersion: Unsupported value: "${w.matchConditionSubjectAccessReviewVersion}": supported values: "v1"`
        : `${path}.matchConditionSubjectAccessReviewVersion: Required value: required if match conditions are specified`,
    );
  if (matchConditions.length > 64) problems.push(`${path}.matchConditions: Too many: ${matchConditions.length}: must have at most 64 items`);
  return {
    type: 'Webhook',
    name,
    kubeConfigFile: connection.kubeConfigFile ?? '',
    timeoutMs: time('timeout', undefined, 30_000),
    authorizedMs: w.cacheAuthorizedRequests === false ? 0 : time('authorizedTTL', 300_000),
    unauthorizedMs: w.cacheUnauthorizedRequests === false ? 0 : time('unauthorizedTTL', 30_000),
    version: oneOf('subjectAccessReviewVersion', ['v1', 'v1beta1']),
    failurePolicy: oneOf('failurePolicy', ['NoOpinion', 'Deny']),
    matchConditions: matchConditions.flatMap((condition: any, i: number) => {
      const at = `${path}.matchConditions[${i}].expression`;
      const source = condition?.expression?.trim();
      if (!source) {
      problems.push(`${at}: Required value`);
      return [];
    }
      try {
        const program = environment.compile(source);
        if (program.output.kind !== 'bool' && program.output.kind !== 'dyn') problems.push(`${at}: Invalid value: ${JSON.stringify(source)}: must evaluate to bool`);
        return [program];
      } catch (error) {
        if (!(error instanceof CompilationError)) throw error;
        problems.push(`${at}: Invalid value: ${JSON.stringify(source)}: compilation failed: ${error.message}`);
        return [];
      }
    }),
  };
}
