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
    for (const plugin of this.#admitting) {
      const wait = plugin.admit!(request);
      if (wait) await wait;
    }
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
        for (const plugin of this.#validating) {
          const wait = plugin.validate!(request);
          if (wait) await wait;
        }
      },
    };
  }
}
