import { sameJson } from '../../api/equality.ts';
import type { FieldError } from '../../api/errors.ts';
import type { KubeObject } from '../../api/object.ts';
import { type Api, type Call, timestamp } from '../api.ts';
import { clone } from '../storage/json.ts';

/** A subresource that has the object's own kind and may change only part of it. */
export interface SubresourceWrite {
  /** Makes of the wanted object what may be written: the old object with the subresource's part of the new one. Mutates object. */
  prepare(object: any, old: any, api: Api, call: Call): void;
  validate?(object: any, old: any): FieldError[];
}

/** Replaces everything in `object` by a copy of `base`, but keeps what a client may set as a precondition (checked before). */
function become(object: KubeObject & Record<string, unknown>, base: KubeObject): void {
  const { managedFields } = object.metadata;
  for (const key of Object.keys(object)) delete object[key];
  Object.assign(object, clone(base));
  const metadata = object.metadata as Partial<KubeObject['metadata']>;
  delete metadata.resourceVersion;
  // Who owns what has been recorded before.
  if (managedFields) metadata.managedFields = managedFields;
  else delete metadata.managedFields;
}

interface Containers {
  name: string;
  resources?: unknown;
}

/** By registry path and subresource; `status` is the strategies' own. */
export const subresourceWrites: Record<string, SubresourceWrite | undefined> = {
  'namespaces/finalize': {
    prepare(object, old) {
      const { finalizers } = object.spec ?? {};
      const { status } = object;
      become(object, old);
      object.spec = { ...object.spec, finalizers };
      if (!finalizers?.length) delete object.spec.finalizers;
      if (status) object.status = status;
    },
  },
  'certificatesigningrequests/approval': {
    prepare(object, old, api) {
      const conditions = object.status?.conditions as
        | { type: string; status?: string; lastUpdateTime?: string; lastTransitionTime?: string }[]
        | undefined;
      const { labels, annotations } = object.metadata;
      become(object, old);
      // Labels and annotations may change with the approval.
      for (const [field, value] of Object.entries({ labels, annotations }))
        if (value === undefined) delete object.metadata[field];
        else object.metadata[field] = value;
      for (const condition of conditions ?? []) {
        condition.lastUpdateTime ??= timestamp(api);
        condition.lastTransitionTime ??= timestamp(api);
      }
      object.status = { ...object.status, conditions };
      if (!conditions) delete object.status.conditions;
    },
    validate(object, old) {
      const errors: FieldError[] = [];
      const of = (csr: any, type: string) => (csr.status?.conditions ?? []).some((c: { type: string }) => c.type === type);
      if (of(object, 'Approved') && of(object, 'Denied')) {
        errors.push({
          type: 'FieldValueInvalid',
          field: 'status.conditions',
          value: 'Denied',
          detail: 'Approved and Denied conditions are mutually exclusive',
        });
      }
      for (const type of ['Approved', 'Denied']) {
        if (of(old, type) && !of(object, type)) {
          errors.push({ type: 'FieldValueForbidden', field: 'status.conditions', detail: `updates may not remove a condition of type "${type}"` });
        }
      }
      return errors;
    },
  },
  'pods/ephemeralcontainers': {
    prepare(object, old) {
      const containers = object.spec?.ephemeralContainers;
      become(object, old);
      if (!sameJson(containers, old.spec.ephemeralContainers)) object.metadata.generation = (old.metadata.generation ?? 0) + 1;
      if (containers) object.spec.ephemeralContainers = containers;
      else delete object.spec.ephemeralContainers;
    },
    validate(object, old) {
      const now = new Map<string, unknown>((object.spec.ephemeralContainers ?? []).map((c: Containers) => [c.name, c]));
      const errors: FieldError[] = [];
      for (const container of (old.spec.ephemeralContainers ?? []) as Containers[]) {
        if (!sameJson(now.get(container.name), container)) {
          errors.push({
            type: 'FieldValueForbidden',
            field: 'spec.ephemeralContainers',
            detail: `existing ephemeral containers "${container.name}" may not be changed`,
          });
        }
      }
      const taken = new Set([...(object.spec.containers ?? []), ...(object.spec.initContainers ?? [])].map((c: Containers) => c.name));
      (object.spec.ephemeralContainers ?? []).forEach((c: Containers, i: number) => {
        if (taken.has(c.name)) errors.push({ type: 'FieldValueDuplicate', field: `spec.ephemeralContainers[${i}].name`, value: c.name, detail: '' });
        taken.add(c.name);
      });
      return errors;
    },
  },
  'pods/resize': {
    prepare(object, old) {
      const wanted = new Map<string, unknown>();
      for (const c of [...(object.spec?.containers ?? []), ...(object.spec?.initContainers ?? [])] as Containers[]) wanted.set(c.name, c.resources);
      become(object, old);
      let changed = false;
      for (const c of [...object.spec.containers, ...(object.spec.initContainers ?? [])] as Containers[]) {
        if (!wanted.has(c.name) || sameJson(wanted.get(c.name), c.resources)) continue;
        c.resources = wanted.get(c.name) ?? {};
        changed = true;
      }
      if (changed) object.metadata.generation = (object.metadata.generation ?? 0) + 1;
    },
  },
};
