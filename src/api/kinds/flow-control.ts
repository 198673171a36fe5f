import type { FieldError } from '../errors.ts';
import type { KindStrategy } from '../scheme.ts';
import { labelProblems, subdomainProblems } from '../validation.ts';
import { Findings } from './findings.ts';
import { specAndStatus } from './spec-and-status.ts';

const verbs = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'proxy', 'update', 'watch'];
const highestPrecedence = 10_000;
const mostQueues = 10_000_000;
const mostHashBits = 60;

function validateVerbs(found: Findings, list: string[], at: string): void {
  if (!list.length) found.required(at, 'verbs must contain at least one value');
  else if (list.includes('*')) {
    if (list.length > 1) found.invalid(at, list, "if '*' is present, must not specify other verbs");
  } else if (list.some((verb) => !verbs.includes(verb))) {
    const detail = `supported values: ${verbs.map((verb) => JSON.stringify(verb)).join(', ')}`;
    found.errors.push({ type: 'FieldValueNotSupported', field: at, value: list, detail });
  }
}

function pathProblem(path: string): string | undefined {
  if (!path) return 'must not be empty';
  if (path === '/') return undefined;
  if (!path.startsWith('/')) return 'must start with slash';
  if (path.includes(' ')) return 'must not contain white-space';
  if (path.includes('//')) return 'must not contain double slash';
  const stars = path.split('*').length - 1;
  return stars > 1 || (stars === 1 && !path.endsWith('/*')) ? 'wildcard can only do suffix matching' : undefined;
}

const subjectFields = { ServiceAccount: 'serviceAccount', User: 'user', Group: 'group' } as const;

function validateSubject(found: Findings, subject: any, at: string): void {
  const kind = (subject.kind ?? '') as keyof typeof subjectFields;
  const own = subjectFields[kind];
  if (!own) return found.oneOf(`${at}.kind`, kind, ['Group', 'ServiceAccount', 'User']);
  const value = subject[own];
  if (!value) found.required(`${at}.${own}`, `${own} is required when subject kind is '${kind}'`);
  else if (!value.name) found.required(`${at}.${own}.name`);
  else if (kind === 'ServiceAccount' && value.name !== '*') found.problems(`${at}.${own}.name`, value.name, subdomainProblems);
  if (value && kind === 'ServiceAccount') {
    if (value.namespace) found.problems(`${at}.${own}.namespace`, value.namespace, labelProblems);
    else found.required(`${at}.${own}.namespace`, 'must specify namespace for service account');
  }
  for (const [other, field] of Object.entries({ ServiceAccount: 'serviceAccount', User: 'user', Group: 'group' }))
    if (other !== kind && subject[field]) found.forbidden(`${at}.${field}`, `${field} is forbidden when subject kind is not '${other}'`);
}

function validateFlowRule(found: Findings, rule: any, at: string): void {
  const subjects = rule.subjects ?? [];
  if (!subjects.length) found.required(`${at}.subjects`, 'subjects must contain at least one value');
  subjects.forEach((subject: any, i: number) => {
    validateSubject(found, subject, `${at}.subjects[${i}]`);
  });
  if (!rule.resourceRules?.length && !rule.nonResourceRules?.length)
    found.required(at, 'at least one of resourceRules and nonResourceRules has to be non-empty');
  (rule.resourceRules ?? []).forEach((r: any, i: number) => {
    const path = `${at}.resourceRules[${i}]`;
    validateVerbs(found, r.verbs ?? [], `${path}.verbs`);
    const [apiGroups, resources, namespaces] = [r.apiGroups ?? [], r.resources ?? [], r.namespaces ?? []];
    if (!apiGroups.length) found.required(`${path}.apiGroups`, 'resource rules must supply at least one api group');
    else if (apiGroups.length > 1 && apiGroups.includes('*'))
      found.invalid(`${path}.apiGroups`, apiGroups, "if '*' is present, must not specify other api groups");
    if (!resources.length) found.required(`${path}.resources`, 'resource rules must supply at least one resource');
    else if (resources.length > 1 && resources.includes('*'))
      found.invalid(`${path}.resources`, resources, "if '*' is present, must not specify other resources");
    if (!namespaces.length) {
      if (!r.clusterScope) found.required(`${path}.namespaces`, 'resource rules that are not cluster scoped must supply at least one namespace');
    } else if (namespaces.includes('*')) {
      if (namespaces.length > 1) found.invalid(`${path}.namespaces`, namespaces, "if '*' is present, must not specify other namespaces");
    } else
      namespaces.forEach((name: string, j: number) => {
        for (const detail of labelProblems(name))
          found.invalid(`${path}.namespaces[${j}]`, name, `each member of this list must be '*' or a DNS-1123 label; ${detail}`);
      });
  });
  (rule.nonResourceRules ?? []).forEach((r: any, i: number) => {
    const path = `${at}.nonResourceRules[${i}]`;
    validateVerbs(found, r.verbs ?? [], `${path}.verbs`);
    const urls: string[] = r.nonResourceURLs ?? [];
    if (!urls.length) found.required(`${path}.nonResourceURLs`, 'nonResourceURLs must contain at least one value');
    else if (urls.includes('*')) {
      if (urls.length > 1) found.invalid(`${path}.nonResourceURLs`, urls, "if '*' is present, must not specify other non-resource URLs");
    } else
      urls.forEach((url, j) => {
        const detail = pathProblem(url);
        if (detail) found.invalid(`${path}.nonResourceURLs[${j}]`, url, detail);
      });
  });
}

export const flowSchema: KindStrategy = {
  ...specAndStatus,
  // As requests are matched.
  rows: { order: (a, b) => (a.spec?.matchingPrecedence ?? 0) - (b.spec?.matchingPrecedence ?? 0) || (a.metadata.name < b.metadata.name ? -1 : 1) },
  default(o) {
    o.spec ??= {};
    o.spec.matchingPrecedence ||= 1000;
  },
  validate(o): FieldError[] {
    const found = new Findings();
    const s = o.spec ?? {};
    const precedence = s.matchingPrecedence;
    if (precedence <= 0) found.invalid('spec.matchingPrecedence', precedence, 'must be a positive value');
    if (precedence > highestPrecedence) found.invalid('spec.matchingPrecedence', precedence, `must not be greater than ${highestPrecedence}`);
    if (precedence === 1 && o.metadata?.name !== 'exempt')
      found.invalid('spec.matchingPrecedence', precedence, "only the schema named 'exempt' may have matchingPrecedence 1");
    const method = s.distinguisherMethod;
    if (method && !['ByNamespace', 'ByUser'].includes(method.type)) {
      const detail = 'supported values: "ByNamespace", "ByUser"';
      found.errors.push({ type: 'FieldValueNotSupported', field: 'spec.distinguisherMethod.type', value: { Type: method.type ?? '' }, detail });
    }
    const level = s.priorityLevelConfiguration?.name;
    if (level) found.problems('spec.priorityLevelConfiguration.name', level, subdomainProblems);
    else found.required('spec.priorityLevelConfiguration.name', 'must reference a priority level');
    (s.rules ?? []).forEach((rule: any, i: number) => {
      validateFlowRule(found, rule, `spec.rules[${i}]`);
    });
    return found.errors;
  },
};

/** Bits of a hash that dealing a hand of cards takes. */
function entropyBits(deck: number, hand: number): number {
  let bits = 0;
  for (let i = 0; i < hand; i++) bits += Math.log2(deck - i);
  return Math.ceil(bits);
}

function validateQueuing(found: Findings, q: any, at: string): void {
  if (q.queueLengthLimit <= 0) found.invalid(`${at}.queueLengthLimit`, q.queueLengthLimit, 'must be positive');
  if (q.queues <= 0) found.invalid(`${at}.queues`, q.queues, 'must be positive');
  else if (q.queues > mostQueues) found.invalid(`${at}.queues`, q.queues, `must not be greater than ${mostQueues}`);
  if (q.handSize <= 0) found.invalid(`${at}.handSize`, q.handSize, 'must be positive');
  else if (q.handSize > q.queues) found.invalid(`${at}.handSize`, q.handSize, `should not be greater than queues (${q.queues})`);
  else if (entropyBits(q.queues, q.handSize) > mostHashBits)
    found.invalid(
      `${at}.handSize`,
      q.handSize,
      `required entropy bits of deckSize ${q.queues} and handSize ${q.handSize} should not be greater than ${mostHashBits}`,
    );
}

function validateShares(found: Findings, level: any, at: string): void {
  if (level.nominalConcurrencyShares < 0)
    found.invalid(`${at}.nominalConcurrencyShares`, level.nominalConcurrencyShares, 'must be a non-negative integer');
}
const validateLendable = (found: Findings, level: any, at: string) => found.between(`${at}.lendablePercent`, level.lendablePercent, 0, 100);

export const priorityLevel: KindStrategy = {
  ...specAndStatus,
  default(o) {
    const { limited, exempt } = (o.spec ??= {});
    for (const [level, shares] of [
      [limited, 30],
      [exempt, 0],
    ] as const) {
      if (!level) continue;
      level.nominalConcurrencyShares ??= shares;
      level.lendablePercent ??= 0;
    }
    const queuing = limited?.limitResponse?.queuing;
    if (!queuing) return;
    queuing.handSize ||= 8;
    queuing.queues ||= 64;
    queuing.queueLengthLimit ||= 50;
  },
  validate(o): FieldError[] {
    const found = new Findings();
    const declared = new Findings();
    const s = o.spec ?? {};
    const type = s.type ?? '';
    if ((o.metadata?.name === 'exempt') !== (type === 'Exempt'))
      found.invalid('spec.type', type, "must be 'Exempt' if and only if `name` is 'exempt'");
    if (type === 'Exempt') {
      if (s.limited) declared.forbidden('spec.limited', 'may not be set when type is Exempt');
      if (s.exempt) {
        validateShares(found, s.exempt, 'spec.exempt');
        validateLendable(found, s.exempt, 'spec.exempt');
      }
    } else if (type === 'Limited') {
      if (s.exempt) declared.forbidden('spec.exempt', '');
      if (!s.limited) declared.required('spec.limited');
      else validateLimited(found, declared, s.limited);
    } else {
      if (s.limited) declared.forbidden('spec.limited', '');
      if (!type) declared.required('spec.type');
      else found.oneOf('spec.type', type, ['Exempt', 'Limited']);
    }
    return [...found.errors, ...declared.errors];
  },
};

function validateLimited(found: Findings, declared: Findings, limited: any): void {
  const at = 'spec.limited';
  validateShares(found, limited, at);
  const { type = '', queuing } = limited.limitResponse ?? {};
  const path = `${at}.limitResponse`;
  if (type === 'Reject') {
    if (queuing) declared.forbidden(`${path}.queuing`, '');
  } else if (type === 'Queue') {
    if (!queuing) declared.required(`${path}.queuing`);
    else validateQueuing(found, queuing, `${path}.queuing`);
  } else {
    if (queuing) declared.forbidden(`${path}.queuing`, '');
    if (!type) declared.required(`${path}.type`);
    else found.oneOf(`${path}.type`, type, ['Queue', 'Reject']);
  }
  validateLendable(found, limited, at);
  if (limited.borrowingLimitPercent < 0)
    found.invalid(`${at}.borrowingLimitPercent`, limited.borrowingLimitPercent, 'if specified, must be a non-negative integer');
}
