import type { FieldError } from '../errors.ts';
import type { KindStrategy } from '../scheme.ts';
import { labelProblems, validateLabels } from '../validation.ts';
import { validateResources } from './container-validation.ts';
import { Findings } from './findings.ts';
import { validateToleration } from './scheduling-validation.ts';

const shortNameProblems = (name: string): string[] => labelProblems(name).map((problem) => problem.replace('63 characters', '63 bytes'));

function validate(o: any): FieldError[] {
  const found = new Findings();
  const declared = new Findings();
  if (!o.handler) declared.required('handler');
  else declared.problems('handler', o.handler, shortNameProblems);
  if (o.overhead) validateResources(found, { limits: o.overhead.podFixed ?? {} }, 'overhead');
  const { nodeSelector, tolerations = [] } = o.scheduling ?? {};
  found.errors.push(...validateLabels(nodeSelector, 'scheduling.nodeSelector'));
  const seen = new Set<string>();
  (tolerations ?? []).forEach((t: any, i: number) => {
    validateToleration(found, t, `scheduling.tolerations[${i}]`);
  });
  (tolerations ?? []).forEach((t: any, i: number) => {
    const id = JSON.stringify([t.key ?? '', t.operator ?? '', t.value ?? '', t.effect ?? '']);
    if (seen.has(id))
      found.duplicate(`scheduling.tolerations[${i}]`, {
        Key: t.key ?? '',
        Operator: t.operator ?? '',
        Value: t.value ?? '',
        Effect: t.effect ?? '',
        TolerationSeconds: t.tolerationSeconds ?? null,
      });
    seen.add(id);
  });
  return [...found.errors, ...declared.errors];
}

const handlerChange = (o: any, old: any): FieldError[] =>
  o.handler === old.handler ? [] : [{ type: 'FieldValueInvalid', field: 'handler', value: null, detail: 'field is immutable' }];

export const runtimeClass: KindStrategy = {
  validate,
  updateFirst: (o, old) => (o.handler ? [] : handlerChange(o, old)),
  validateUpdate: (o, old) => (o.handler ? handlerChange(o, old) : []),
};
