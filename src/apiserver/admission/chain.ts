import type { KubeObject } from '../../api/object.ts';
import type { Api, Call } from '../api.ts';
import { Reinvocation } from './reinvocation.ts';

export type AdmissionOperation = 'CREATE' | 'UPDATE' | 'DELETE' | 'CONNECT';

/** What a plugin is asked about. `object` may be changed by admit, and by nothing else. */
export interface AdmissionRequest {
  api: Api;
  call: Call;
  operation: AdmissionOperation;
  group: string;
  resource: string;
  subresource: string;
  namespace: string;
  name: string;
  object: any;
  old: any;
  /** Of what may have to look at the object twice. */
  reinvocation: Reinvocation;
}

/** Refuses by throwing a StatusError. */
export interface AdmissionPlugin {
  name: string;
  admit?(request: AdmissionRequest): void | Promise<void>;
  validate?(request: AdmissionRequest): void | Promise<void>;
}

/** One request's way through the plugins: admit before the strategy prepares the object, validate after it is complete. */
export interface Admission {
  admit(): Promise<void>;
  validate(): Promise<void>;
}

export class AdmissionChain {
  #admitting: AdmissionPlugin[];
  #validating: AdmissionPlugin[];

  constructor(plugins: AdmissionPlugin[]) {
    this.#admitting = plugins.filter((p) => p.admit);
    this.#validating = plugins.filter((p) => p.validate);
  }

  async #admit(request: AdmissionRequest): Promise<void> {
    await timed(this.#admitting, 'admit', request);
  }

  begin(api: Api, call: Call, operation: AdmissionOperation, object: KubeObject | unknown, old: KubeObject | undefined): Admission {
    const { served } = call.target;
    const request: AdmissionRequest = {
      api,
      call,
      operation,
      group: served.group,
      resource: served.resource,
      subresource: call.subresource,
      namespace: call.namespace,
      name: call.name,
      object,
      old,
      reinvocation: new Reinvocation(),
    };
    // Admission was asked about the body that the client sent: a scale, not the object it changes.
    if (call.admitted) return { admit: async () => {}, validate: async () => {} };
    return {
      admit: async () => {
        await this.#admit(request);
        if (!request.reinvocation.wanted) return;
        request.reinvocation.again = true;
        await this.#admit(request);
      },
      validate: async () => {
        await timed(this.#validating, 'validate', request);
      },
    };
  }
}

/** Each plugin in turn; how long each took, and all of them, is told. One look at the clock between two of them serves both. */
async function timed(plugins: AdmissionPlugin[], type: 'admit' | 'validate', request: AdmissionRequest): Promise<void> {
  const { metrics } = request.api;
  const { operation } = request;
  const started = performance.now();
  let since = started;
  for (const plugin of plugins) {
    let rejected = true;
    try {
      const wait = plugin[type]!(request);
      if (wait) await wait;
      rejected = false;
    } finally {
      const now = performance.now();
      metrics.admitted({ name: plugin.name, operation, type, rejected }, now - since);
      if (rejected) metrics.admittedAll(operation, type, true, now - started);
      since = now;
    }
  }
  metrics.admittedAll(operation, type, false, since - started);
}
