import type { Clock } from '../../client/clock.ts';
import type { ClientConfig } from '../../client/config.ts';
import type { Attributes, AuthorizerStep } from './authorizer.ts';
import type { AuthorizerSpec } from './configuration.ts';
import type { NodeAuthorizer } from './node.ts';
import type { RbacIndex } from './rbac.ts';
import { webhookAuthorizer, type WebhookObserver } from './webhook.ts';

/** The authorizers that a server asks, in this order. */
export interface AuthorizationOptions {
  authorizers: AuthorizerSpec[];
  /** How a webhook is reached, by the path of its kubeconfig. */
  webhookConfig?: (kubeConfigFile: string) => ClientConfig;
}

export interface Chain {
  steps: AuthorizerStep[];
  close(): void;
}

export function authorizerChain(
  o: AuthorizationOptions,
  server: { nodes: NodeAuthorizer; rbac: RbacIndex; clock: Clock; observer: WebhookObserver },
): Chain {
  const closing: (() => void)[] = [];
  const stepOf = (spec: AuthorizerSpec): AuthorizerStep => {
    switch (spec.type) {
      case 'AlwaysAllow':
        return () => ({ allowed: true, reason: '' });
      case 'AlwaysDeny':
        return () => ({ allowed: false, reason: 'Everything is forbidden.' });
      case 'Node':
        return (a) => server.nodes.authorize(a);
      case 'RBAC':
        return (a) => server.rbac.authorize(a);
      case 'Webhook': {
        if (!o.webhookConfig) throw new Error(`the webhook ${spec.name} has no configuration`);
        const webhook = webhookAuthorizer({ ...spec, config: o.webhookConfig(spec.kubeConfigFile), clock: server.clock, observer: server.observer });
        closing.push(() => webhook.close());
        return webhook.authorize;
      }
    }
  };
  return {
    steps: o.authorizers.map((spec) => {
      const step = stepOf(spec);
      const name = spec.type === 'Webhook' ? spec.name : spec.type.toLowerCase();
      return Object.assign((attributes: Attributes) => step(attributes), { title: { type: spec.type, name } });
    }),
    close: () => {
      for (const close of closing) close();
    },
  };
}
