import { sameJson } from '../equality.ts';
import type { KindStrategy } from '../scheme.ts';

/** What most kinds with spec and status do: status is its subresource's alone, and generation counts changes of spec. */
export const specAndStatus: Required<Pick<KindStrategy, 'prepareForCreate' | 'prepareForUpdate' | 'prepareForStatusUpdate'>> = {
  prepareForCreate(o) {
    o.status = {};
    o.metadata.generation = 1;
  },
  prepareForUpdate(o, old) {
    if (old.status === undefined) delete o.status;
    else o.status = old.status;
    o.metadata.generation = (old.metadata.generation ?? 0) + (sameJson(o.spec, old.spec) ? 0 : 1);
  },
  prepareForStatusUpdate(o, old) {
    const { status } = o;
    const { resourceVersion, managedFields } = o.metadata;
    for (const key of Object.keys(o)) if (key !== 'status' && key !== 'metadata' && key !== 'apiVersion' && key !== 'kind') delete o[key];
    for (const [key, value] of Object.entries(old)) if (key !== 'status' && key !== 'metadata') o[key] = value;
    o.metadata = {
      ...old.metadata,
      labels: o.metadata.labels,
      annotations: o.metadata.annotations,
      finalizers: o.metadata.finalizers ?? old.metadata.finalizers,
      resourceVersion,
      ...(managedFields ? { managedFields } : {}),
    };
    for (const key of ['labels', 'annotations', 'finalizers']) if (o.metadata[key] === undefined) delete o.metadata[key];
    if (status === undefined) delete o.status;
  },
};

/** Of kinds without a status: generation counts changes of everything but metadata. */
export const generationOfSpec: Required<Pick<KindStrategy, 'prepareForCreate' | 'prepareForUpdate'>> = {
  prepareForCreate(o) {
    o.metadata.generation = 1;
  },
  prepareForUpdate(o, old) {
    const content = (x: any) => ({ ...x, metadata: undefined });
    o.metadata.generation = (old.metadata.generation ?? 0) + (sameJson(content(o), content(old)) ? 0 : 1);
  },
};
