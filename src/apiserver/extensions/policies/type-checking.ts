import { groupVersionOf, type KubeObject } from '../../../api/object.ts';
import type { Registered } from '../../registry.ts';
import { applyTo } from '../../verbs/managed-fields.ts';
import { policyEnvironment } from '../../../api/admission/policy.ts';
import { CompilationError } from '../../../api/cel/environment.ts';
import { typeOfDefinition } from '../../../api/cel/definition-types.ts';
import { typeOfSchema } from '../../../api/cel/schema-types.ts';
import type { Type } from '../../../api/cel/types.ts';
import type { JsonSchema } from '../../../api/crd/json-schema.ts';
import { sameJson } from '../../../api/equality.ts';
import { isNotFound } from '../../../api/errors.ts';
import { definitionOf } from '../../../api/schema.ts';
import type { ServedResource } from '../../../api/scheme.ts';
import type { Api } from '../../api.ts';
import { clone } from '../../storage/json.ts';
import type { ResourceStorage } from '../../storage/transactions.ts';
import type { Rule } from '../webhooks/matching.ts';
import type { Policy } from './bindings.ts';

/** Kinds beyond which a policy's expressions are not checked. */
const mostKinds = 10;
const retryMs = 1000;

/** Checks the expressions of validating policies against the kinds that they match, and tells what does not fit in their status. */
export class PolicyTypeChecking {
  #api: Api;
  #storage: ResourceStorage;
  #queue = new Set<string>();
  #running = false;

  constructor(api: Api) {
    this.#api = api;
    this.#storage = api.registry.storage('admissionregistration.k8s.io', 'v1', 'validatingadmissionpolicies');
  }

  start(): void {
    this.#storage.cache.onChange(({ entry, deleted }) => {
      if (!deleted) this.#enqueue(entry.key);
    });
    for (const { key } of this.#storage.cache.list()) this.#enqueue(key);
  }

  #enqueue(name: string): void {
    this.#queue.add(name);
    if (this.#running) return;
    this.#running = true;
    void this.#run();
  }

  async #run(): Promise<void> {
    await Promise.resolve();
    for (const name of this.#queue) {
      if (this.#api.stopping.aborted) break;
      this.#queue.delete(name);
      try {
        await this.#check(name);
      } catch (error) {
        if (this.#api.stopping.aborted || isNotFound(error)) continue;
        this.#api.log.error({ err: error, validatingadmissionpolicy: name }, 'the types of a policy could not be checked');
        this.#api.clock.after(retryMs, () => this.#enqueue(name));
      }
    }
    this.#running = false;
    if (this.#queue.size > 0 && !this.#api.stopping.aborted) this.#enqueue(this.#queue.values().next().value as string);
  }

  async #check(name: string): Promise<void> {
    const policy = this.#storage.cache.get(name)?.object as (Policy & { status?: any }) | undefined;
    if (!policy || policy.status?.observedGeneration === policy.metadata.generation) return;
    const expressionWarnings = this.#warnings(policy);
    await this.#storage.update(name, (current) => {
      if (!current || current.object.metadata.generation !== policy.metadata.generation) return { keep: true };
      const { apiVersion, kind } = current.object;
      const status = { observedGeneration: policy.metadata.generation, typeChecking: expressionWarnings.length ? { expressionWarnings } : {} };
      // As upstream's controller, which applies it.
      const target = this.#api.registry.find('admissionregistration.k8s.io', 'v1', 'validatingadmissionpolicies') as Registered;
      const writer = { target, fieldManager: 'validatingadmissionpolicy-status', subresource: 'status' };
      const next = clone(applyTo(this.#api, writer, current.object, { apiVersion, kind, metadata: { name }, status }, true) as KubeObject) as any;
      return sameJson(next.status, (current.object as any).status) ? { keep: true } : { put: next };
    });
  }

  #warnings(policy: Policy): { fieldRef: string; warning: string }[] {
    const { spec } = policy;
    const kinds = this.#kinds(spec.matchConstraints?.resourceRules ?? []);
    const param = spec.paramKind ? this.#paramType(spec.paramKind) : undefined;
    const found: { fieldRef: string; warning: string }[] = [];
    const judge = (expression: string | undefined, fieldRef: string) => {
      if (!expression) return;
      const warnings = kinds.flatMap((served) => {
        const type = typeOf(served);
        if (!type) return [];
        const { environment } = policyEnvironment(spec, false, { object: type, oldObject: type, ...(param ? { params: param } : {}) });
        try {
          environment.compile(expression);
          return [];
        } catch (error) {
          if (!(error instanceof CompilationError)) throw error;
          return [`${served.group ? `${served.group}/` : ''}${served.version}, Kind=${served.kind}: ${error.message}\n`];
        }
      });
      if (warnings.length) found.push({ fieldRef, warning: warnings.join('') });
    };
    (spec.validations ?? []).forEach((validation: any, i: number) => {
      judge(validation.expression, `spec.validations[${i}].expression`);
      judge(validation.messageExpression, `spec.validations[${i}].messageExpression`);
    });
    return found;
  }

  /** The kinds that rules name, without wildcards. */
  #kinds(rules: Rule[]): ServedResource[] {
    const kinds = new Map<string, ServedResource>();
    for (const rule of rules)
      for (const group of rule.apiGroups ?? [])
        for (const version of rule.apiVersions ?? [])
          for (const resource of rule.resources ?? []) {
            const served = this.#api.registry.find(group, version, resource)?.served;
            if (served && kinds.size < mostKinds) kinds.set(`${group}/${version}/${served.kind}`, served);
          }
    return [...kinds.values()].sort((a, b) => (`${a.group}/${a.version}/${a.kind}` < `${b.group}/${b.version}/${b.kind}` ? -1 : 1));
  }

  #paramType({ apiVersion, kind }: { apiVersion: string; kind: string }): Type | undefined {
    const { group, version } = groupVersionOf(apiVersion);
    const served = this.#api.registry.findKind(group, version, kind)?.served;
    return served && typeOf(served);
  }
}

function typeOf(served: ServedResource): Type | undefined {
  if (served.custom) return typeOfSchema((served.custom.openapi.schema ?? {}) as JsonSchema, true);
  const definition = definitionOf(served.definition);
  return definition && typeOfDefinition(definition);
}
