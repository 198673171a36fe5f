import { labelProblems, labelValueProblems, qualifiedNameProblems, subdomainProblems } from '../validation.ts';
import type { Findings } from './findings.ts';

/** How pods spread over a topology. */
export function validateSpreading(found: Findings, constraints: any[], path: string): void {
  constraints.forEach((c, i) => {
    const at = `${path}[${i}]`;
    if (!(c.maxSkew > 0)) found.invalid(`${at}.maxSkew`, c.maxSkew ?? 0, 'must be greater than zero');
    if (!c.topologyKey) found.required(`${at}.topologyKey`, 'can not be empty');
    found.oneOf(`${at}.whenUnsatisfiable`, c.whenUnsatisfiable ?? '', ['DoNotSchedule', 'ScheduleAnyway']);
    if (constraints.slice(i + 1).some((other) => other.topologyKey === c.topologyKey && other.whenUnsatisfiable === c.whenUnsatisfiable))
      found.duplicate(`${at}.{topologyKey, whenUnsatisfiable}`, `{${c.topologyKey ?? ''}, ${c.whenUnsatisfiable ?? ''}}`);
    if (c.minDomains !== undefined) {
      if (!(c.minDomains > 0)) found.invalid(`${at}.minDomains`, c.minDomains, 'must be greater than zero');
      if (c.whenUnsatisfiable !== 'DoNotSchedule')
        found.invalid(`${at}.minDomains`, c.minDomains, `can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ${c.whenUnsatisfiable ?? ''}`);
    }
    for (const policy of ['nodeAffinityPolicy', 'nodeTaintsPolicy'])
      if (c[policy] !== undefined) found.oneOf(`${at}.${policy}`, c[policy], ['Honor', 'Ignore']);
    validateLabelKeys(found, c, at);
    if (c.labelSelector) validateLabelSelector(found, c.labelSelector, `${at}.labelSelector`);
  });
}

/** Keys whose values are taken from the pod's own labels. */
function validateLabelKeys(found: Findings, term: any, at: string): void {
  const { matchLabelKeys, mismatchLabelKeys, labelSelector } = term;
  if (!matchLabelKeys && !mismatchLabelKeys) return;
  for (const list of ['matchLabelKeys', 'mismatchLabelKeys'] as const) {
    const keys: string[] = term[list] ?? [];
    if (keys.length && !labelSelector) found.forbidden(`${at}.${list}`, 'must not be specified when labelSelector is not set');
    else keys.forEach((key, i) => found.problems(`${at}.${list}[${i}]`, key, qualifiedNameProblems));
  }
  if (labelSelector) {
    const selected = new Set(Object.keys(labelSelector.matchLabels ?? {}));
    for (const { key } of labelSelector.matchExpressions ?? []) {
      const i = (matchLabelKeys ?? []).indexOf(key);
      if (i >= 0 && selected.has(key)) found.invalid(`${at}[${i}]`, key, 'exists in both matchLabelKeys and labelSelector');
      selected.add(key);
    }
  }
  (matchLabelKeys ?? []).forEach((key: string, i: number) => {
    if (mismatchLabelKeys?.includes(key)) found.invalid(`${at}.matchLabelKeys[${i}]`, key, 'exists in both matchLabelKeys and mismatchLabelKeys');
  });
}

export function validateToleration(found: Findings, t: any, at: string): void {
  if (t.key) found.problems(`${at}.key`, t.key, qualifiedNameProblems);
  const operator = t.operator || 'Equal';
  const shown = t.operator ?? '';
  if (!t.key && operator !== 'Exists') {
    const detail = 'operator must be Exists when `key` is empty, which means "match all values and all keys"';
    found.invalid(`${at}.operator`, shown, detail);
  }
  if (t.tolerationSeconds !== undefined && t.effect !== 'NoExecute')
    found.invalid(`${at}.effect`, t.effect ?? '', "effect must be 'NoExecute' when `tolerationSeconds` is set");
  if (operator === 'Exists') {
    if (t.value) found.invalid(`${at}.operator`, t.value, "value must be empty when `operator` is 'Exists'");
  } else if (operator === 'Equal') {
    const problems = labelValueProblems(t.value ?? '');
    if (problems.length) found.invalid(`${at}.operator`, t.value, problems.join(';'));
  } else if (operator === 'Lt' || operator === 'Gt') found.unsupported(`${at}.operator`, operator, ['Equal', 'Exists', 'Lt', 'Gt']);
  else found.unsupported(`${at}.operator`, operator, ['Equal', 'Exists']);
  if (t.effect) found.oneOf(`${at}.effect`, t.effect, ['NoSchedule', 'PreferNoSchedule', 'NoExecute']);
}

export function validateAffinity(found: Findings, affinity: any, at: string): void {
  const node = affinity.nodeAffinity;
  if (node?.requiredDuringSchedulingIgnoredDuringExecution) {
    const path = `${at}.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution`;
    validateNodeSelector(found, node.requiredDuringSchedulingIgnoredDuringExecution, path);
  }
  (node?.preferredDuringSchedulingIgnoredDuringExecution ?? []).forEach((p: any, i: number) => {
    const path = `${at}.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[${i}]`;
    validateWeight(found, p.weight, `${path}.weight`);
    validateNodeTerm(found, p.preference ?? {}, `${path}.preference`, true);
  });
  for (const kind of ['podAffinity', 'podAntiAffinity']) {
    (affinity[kind]?.requiredDuringSchedulingIgnoredDuringExecution ?? []).forEach((term: any, i: number) => {
      validatePodTerm(found, term, `${at}.${kind}.requiredDuringSchedulingIgnoredDuringExecution[${i}]`);
    });
    (affinity[kind]?.preferredDuringSchedulingIgnoredDuringExecution ?? []).forEach((p: any, i: number) => {
      const path = `${at}.${kind}.preferredDuringSchedulingIgnoredDuringExecution[${i}]`;
      validateWeight(found, p.weight, `${path}.weight`);
      validatePodTerm(found, p.podAffinityTerm ?? {}, `${path}.podAffinityTerm`);
    });
  }
}

function validateWeight(found: Findings, weight: unknown, field: string): void {
  if (!(Number(weight) >= 1 && Number(weight) <= 100)) found.invalid(field, weight ?? 0, 'must be in the range 1-100');
}

/** Terms of which a node must meet one. */
export function validateNodeSelector(found: Findings, selector: any, at: string): void {
  const path = `${at}.nodeSelectorTerms`;
  const terms = selector.nodeSelectorTerms ?? [];
  if (!terms.length) found.required(path, 'must have at least one node selector term');
  terms.forEach((term: any, i: number) => {
    validateNodeTerm(found, term, `${path}[${i}]`);
  });
}

/** What is only preferred may have values that no label can have. */
function validateNodeTerm(found: Findings, term: any, at: string, anyValue = false): void {
  (term.matchExpressions ?? []).forEach((e: any, i: number) => {
    const path = `${at}.matchExpressions[${i}]`;
    const count = (e.values ?? []).length;
    switch (e.operator) {
      case 'In':
      case 'NotIn':
        if (!count) found.required(`${path}.values`, "must be specified when `operator` is 'In' or 'NotIn'");
        break;
      case 'Exists':
      case 'DoesNotExist':
        if (count) found.forbidden(`${path}.values`, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
        break;
      case 'Gt':
      case 'Lt':
        if (count !== 1) found.required(`${path}.values`, "must be specified single value when `operator` is 'Lt' or 'Gt'");
        break;
      default:
        found.invalid(`${path}.operator`, e.operator ?? '', 'not a valid selector operator');
    }
    found.problems(`${path}.key`, e.key ?? '', qualifiedNameProblems);
    if (anyValue) return;
    (e.values ?? []).forEach((value: string, j: number) => {
      found.problems(`${path}.values[${j}]`, value, labelValueProblems);
    });
  });
  (term.matchFields ?? []).forEach((f: any, i: number) => {
    const path = `${at}.matchFields[${i}]`;
    if (f.operator !== 'In' && f.operator !== 'NotIn') found.invalid(`${path}.operator`, f.operator ?? '', 'not a valid selector operator');
    else if ((f.values ?? []).length !== 1)
      found.required(`${path}.values`, "must be only one value when `operator` is 'In' or 'NotIn' for node field selector");
    if (f.key !== 'metadata.name') found.invalid(`${path}.key`, f.key ?? '', 'not a valid field selector key');
    else
      (f.values ?? []).forEach((name: string, j: number) => {
        found.problems(`${path}.values[${j}]`, name, subdomainProblems);
      });
  });
}

function validatePodTerm(found: Findings, term: any, at: string): void {
  for (const selector of ['labelSelector', 'namespaceSelector'])
    if (term[selector]) validateLabelSelector(found, term[selector], `${at}.${selector}`);
  for (const name of term.namespaces ?? []) found.problems(`${at}.namespace`, name, labelProblems);
  validateLabelKeys(found, term, at);
  if (!term.topologyKey) found.required(`${at}.topologyKey`, 'can not be empty');
  found.problems(`${at}.topologyKey`, term.topologyKey ?? '', qualifiedNameProblems);
}

/** A label selector as objects carry it. */
export function validateLabelSelector(found: Findings, selector: any, at: string): void {
  for (const [key, value] of Object.entries((selector.matchLabels ?? {}) as Record<string, string>)) {
    found.problems(`${at}.matchLabels`, key, qualifiedNameProblems);
    found.problems(`${at}.matchLabels`, value, labelValueProblems);
  }
  (selector.matchExpressions ?? []).forEach((e: any, i: number) => {
    const path = `${at}.matchExpressions[${i}]`;
    const count = (e.values ?? []).length;
    if (e.operator === 'In' || e.operator === 'NotIn') {
      if (!count) found.required(`${path}.values`, "must be specified when `operator` is 'In' or 'NotIn'");
    } else if (e.operator === 'Exists' || e.operator === 'DoesNotExist') {
      if (count) found.forbidden(`${path}.values`, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
    } else found.invalid(`${path}.operator`, e.operator ?? '', 'not a valid selector operator');
    found.problems(`${path}.key`, e.key ?? '', qualifiedNameProblems);
    (e.values ?? []).forEach((value: string, j: number) => {
      found.problems(`${path}.values[${j}]`, value, labelValueProblems);
    });
  });
}
