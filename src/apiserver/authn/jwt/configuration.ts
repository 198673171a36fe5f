import { X509Certificate } from 'node:crypto';
import { parse } from 'yaml';
import { CompilationError, Environment, type Program } from '../../../api/cel/environment.ts';
import { t } from '../../../api/cel/types.ts';

export interface ClaimOrExpression {
  claim?: string;
  prefix?: string;
  expression?: Program;
}

/** An issuer of tokens that is believed, and how its tokens are read: jwt[] of AuthenticationConfiguration. */
export interface JwtIssuer {
  url: string;
  discoveryUrl: string;
  /** PEM; the system's authorities where left out. */
  ca?: string;
  audiences: string[];
  /** JWS algorithms; all asymmetric ones of upstream where left out. */
  algorithms?: string[];
  username: ClaimOrExpression;
  groups?: ClaimOrExpression;
  uid?: ClaimOrExpression;
  extra: { key: string; value: Program }[];
  requiredClaims: Record<string, string>;
  claimRules: { expression: Program; message: string }[];
  userRules: { expression: Program; message: string }[];
}

/** Who may be anonymous. */
export interface AnonymousOptions {
  enabled: boolean;
  /** Paths to which that is restricted; all where left out. */
  paths?: string[];
}

export interface AuthenticationConfiguration {
  jwt: JwtIssuer[];
  anonymous?: AnonymousOptions;
}

const claims = new Environment({ variables: { claims: t.map(t.string, t.dyn) } });
const user = new Environment({
  variables: {
    user: t.object('kubernetes.UserInfo', {
      username: t.string,
      uid: t.string,
      groups: t.list(t.string),
      extra: t.map(t.string, t.list(t.string)),
    }),
  },
});

const apiVersions = ['apiserver.config.k8s.io/v1', 'apiserver.config.k8s.io/v1beta1', 'apiserver.config.k8s.io/v1alpha1'];

/** Reads an AuthenticationConfiguration, YAML or JSON. Throws an error that lists all that is wrong, with paths. */
export function parseAuthenticationConfiguration(text: string, disallowedIssuers: string[] = []): AuthenticationConfiguration {
  const config = parse(text);
  if (config?.kind !== 'AuthenticationConfiguration' || !apiVersions.includes(config.apiVersion))
    throw new Error('not an AuthenticationConfiguration of apiserver.config.k8s.io/v1');
  const problems: string[] = [];
  const listed = config.jwt ?? [];
  if (listed.length > 64) problems.push(`jwt: Too many: ${listed.length}: must have at most 64 items`);
  const jwt = listed.map((one: any, i: number) => readIssuer(one ?? {}, `jwt[${i}]`, problems, disallowedIssuers));
  duplicates(listed.map((one: any) => one?.issuer?.url)).forEach(([i, url]) => problems.push(`jwt[${i}].issuer.url: Duplicate value: "${url}"`));
  duplicates(listed.map((one: any) => one?.issuer?.discoveryURL)).forEach(([i, url]) =>
    problems.push(`jwt[${i}].issuer.discoveryURL: Duplicate value: "${url}"`),
  );
  const { anonymous } = config;
  if (anonymous && !anonymous.enabled && anonymous.conditions?.length)
    problems.push('anonymous.conditions: Invalid value: enabled should be set to true when conditions are defined');
  if (problems.length) throw new Error(problems.join('; '));
  return {
    jwt,
    ...(anonymous
      ? { anonymous: { enabled: anonymous.enabled === true, ...(anonymous.conditions?.length ? { paths: anonymous.conditions.map((c: any) => c.path) } : {}) } }
      : {}),
  };
}

/** Places of values that stood before. */
function duplicates(values: (string | undefined)[]): [number, string][] {
  return values.flatMap((value, i) => (value && values.indexOf(value) < i ? [[i, value] as [number, string]] : []));
}

function checkUrl(value: string | undefined, path: string, problems: string[], disallowed: string[]): void {
  if (!value) return void problems.push(`${path}: Required value`);
  const wrong = (why: string) => problems.push(`${path}: Invalid value: ${JSON.stringify(value)}: ${why}`);
  if (disallowed.includes(value)) wrong(`URL must not overlap with disallowed issuers: [${disallowed.join(' ')}]`);
  let url: URL;
  try {
    url = new URL(value);
  } catch (error) {
    return void wrong((error as Error).message);
  }
  if (url.protocol !== 'https:') wrong('URL scheme must be https');
  if (url.username || url.password) wrong('URL must not contain a username or password');
  if (url.search) wrong('URL must not contain a query');
  if (url.hash) wrong('URL must not contain a fragment');
}

function readIssuer(one: any, path: string, problems: string[], disallowed: string[]): JwtIssuer {
  const { issuer = {}, claimMappings = {} } = one;
  checkUrl(issuer.url, `${path}.issuer.url`, problems, disallowed);
  if (issuer.discoveryURL) {
    checkUrl(issuer.discoveryURL, `${path}.issuer.discoveryURL`, problems, []);
    if (issuer.discoveryURL.replace(/\/$/, '') === issuer.url?.replace(/\/$/, ''))
      problems.push(`${path}.issuer.discoveryURL: Invalid value: "${issuer.discoveryURL}": discoveryURL must be different from URL`);
  }
  if (issuer.egressSelectorType) problems.push(`${path}.issuer.egressSelectorType: Invalid value: "${issuer.egressSelectorType}": egress selectors are not supported`);
  const audiences: string[] = issuer.audiences ?? [];
  if (!audiences.length) problems.push(`${path}.issuer.audiences: Required value: at least one ${path}.issuer.audiences is required`);
  audiences.forEach((a, i) => a || problems.push(`${path}.issuer.audiences[${i}]: Required value`));
  duplicates(audiences).forEach(([i, a]) => problems.push(`${path}.issuer.audiences[${i}]: Duplicate value: "${a}"`));
  if (audiences.length > 1 && issuer.audienceMatchPolicy !== 'MatchAny')
    problems.push(`${path}.issuer.audienceMatchPolicy: Invalid value: "${issuer.audienceMatchPolicy ?? ''}": audienceMatchPolicy must be MatchAny for multiple audiences`);
  if (audiences.length === 1 && issuer.audienceMatchPolicy && issuer.audienceMatchPolicy !== 'MatchAny')
    problems.push(`${path}.issuer.audienceMatchPolicy: Invalid value: "${issuer.audienceMatchPolicy}": audienceMatchPolicy must be empty or MatchAny for single audience`);
  if (issuer.certificateAuthority) {
    try {
      new X509Certificate(issuer.certificateAuthority);
    } catch {
      problems.push(`${path}.issuer.certificateAuthority: Invalid value: "<omitted>": data does not contain any valid RSA or ECDSA certificates`);
    }
  }

  const used: Program[] = [];
  const compile = (environment: Environment, source: string, at: string, outputs: string[]): Program | undefined => {
    try {
      const program = environment.compile(source);
      const { kind } = program.output;
      if (kind !== 'dyn' && !outputs.includes(kind))
        problems.push(`${at}: Invalid value: ${JSON.stringify(source)}: must evaluate to ${outputs.join(' or ')}`);
      if (environment === claims) used.push(program);
      return program;
    } catch (error) {
      if (!(error instanceof CompilationError)) throw error;
      problems.push(`${at}: Invalid value: ${JSON.stringify(source)}: compilation failed: ${error.message}`);
      return undefined;
    }
  };
  const mapping = (m: any, at: string, o: { required: boolean; prefix: boolean; outputs: string[] }): ClaimOrExpression | undefined => {
    if (m?.claim && m.expression) problems.push(`${at}: Invalid value: "": claim and expression can't both be set`);
    if (!m?.claim && !m?.expression) {
      if (o.required) problems.push(`${at}: Required value: claim or expression is required`);
      return undefined;
    }
    if (m.expression) {
      if (m.prefix !== undefined) problems.push(`${at}.prefix: Invalid value: "${m.prefix}": may not be specified when expression is set`);
      const expression = compile(claims, m.expression, `${at}.expression`, o.outputs);
      return expression && { expression };
    }
    if (o.prefix && m.prefix === undefined)
      problems.push(`${at}.prefix: Required value: prefix is required when claim is set. It can be set to an empty string to disable prefixing`);
    return { claim: m.claim, prefix: m.prefix ?? '' };
  };
  const at = `${path}.claimMappings`;
  const username = mapping(claimMappings.username, `${at}.username`, { required: true, prefix: true, outputs: ['string'] });
  const groups = mapping(claimMappings.groups, `${at}.groups`, { required: false, prefix: true, outputs: ['string', 'list'] });
  const uid = mapping(claimMappings.uid, `${at}.uid`, { required: false, prefix: false, outputs: ['string'] });
  const extra = (claimMappings.extra ?? []).flatMap((e: any, i: number) => {
    const key: string = e?.key ?? '';
    const where = `${at}.extra[${i}]`;
    if (!/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?\/\S+$/.test(key)) problems.push(`${where}.key: Invalid value: "${key}": must be a domain-prefixed path (such as "acme.io/foo"), in lowercase`);
    const domain = key.split('/')[0] as string;
    if (/(^|\.)(kubernetes|k8s)\.io$/.test(domain))
      problems.push(`${where}.key: Invalid value: "${key}": k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use`);
    if (!e?.valueExpression) {
      problems.push(`${where}.valueExpression: Required value`);
      return [];
    }
    const value = compile(claims, e.valueExpression, `${where}.valueExpression`, ['string', 'list']);
    return value ? [{ key, value }] : [];
  });
  duplicates((claimMappings.extra ?? []).map((e: any) => e?.key)).forEach(([i, key]) => problems.push(`${at}.extra[${i}].key: Duplicate value: "${key}"`));

  const requiredClaims: Record<string, string> = {};
  const claimRules = (one.claimValidationRules ?? []).flatMap((rule: any, i: number) => {
    const where = `${path}.claimValidationRules[${i}]`;
    if (rule?.claim && rule.expression) {
      problems.push(`${where}: Invalid value: "${rule.claim}": claim and expression can't both be set`);
      return [];
    }
    if (rule?.claim) {
      if (rule.message) problems.push(`${where}.message: Invalid value: "${rule.message}": may not be specified when claim is set`);
      if (Object.hasOwn(requiredClaims, rule.claim)) problems.push(`${where}.claim: Duplicate value: "${rule.claim}"`);
      requiredClaims[rule.claim] = rule.requiredValue ?? '';
      return [];
    }
    if (!rule?.expression) {
      problems.push(`${where}: Required value: claim or expression is required`);
      return [];
    }
    if (rule.requiredValue) problems.push(`${where}.requiredValue: Invalid value: "${rule.requiredValue}": may not be specified when expression is set`);
    const expression = compile(claims, rule.expression, `${where}.expression`, ['bool']);
    return expression ? [{ expression, message: rule.message ?? '' }] : [];
  });
  const userRules = (one.userValidationRules ?? []).flatMap((rule: any, i: number) => {
    const where = `${path}.userValidationRules[${i}].expression`;
    if (!rule?.expression) {
      problems.push(`${where}: Required value`);
      return [];
    }
    const expression = compile(user, rule.expression, where, ['bool']);
    return expression ? [{ expression, message: rule.message ?? '' }] : [];
  });
  // A name made of an unverified address would be anybody's.
  if (username?.expression && /\bclaims\.email\b(?!_)/.test(username.expression.source) && !used.some((p) => p.source.includes('email_verified')))
    problems.push(
      `${at}.username.expression: Invalid value: ${JSON.stringify(username.expression.source)}: claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression`,
    );
  return {
    url: issuer.url ?? '',
    discoveryUrl: issuer.discoveryURL || `${(issuer.url ?? '').replace(/\/$/, '')}/.well-known/openid-configuration`,
    ...(issuer.certificateAuthority ? { ca: issuer.certificateAuthority } : {}),
    audiences,
    username: username ?? {},
    ...(groups ? { groups } : {}),
    ...(uid ? { uid } : {}),
    extra,
    requiredClaims,
    claimRules,
    userRules,
  };
}
