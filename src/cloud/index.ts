import type { Controller, ControllerContext } from './controller.ts';
import { startCloudNodeController } from './node.ts';
import { startCloudNodeLifecycleController } from './node-lifecycle.ts';
import type { CloudProvider } from './provider.ts';
import { startRouteController } from './route.ts';
import { startServiceController } from './service.ts';
import { startVolumeAttacher } from './volume-attacher.ts';
import { startVolumeProvisioner } from './volume-provisioner.ts';
import { startVolumeResizer } from './volume-resizer.ts';

export interface CloudControllersOptions {
  clusterName: string;
  /** Range of the pods, such as 10.244.0.0/16. */
  clusterCidr: string;
  /** Whether routes to the nodes' pods are kept in the cloud: true, as upstream's --configure-cloud-routes. */
  routes?: boolean;
}

/** The cloud-controller-manager: each controller with the name that upstream gives it (volumes: the sidecars of the EBS CSI driver). */
export function startCloudControllers(context: ControllerContext, cloud: CloudProvider, options: CloudControllersOptions): Controller[] {
  const whole = { ...context, cloud, ...options };
  return [
    startCloudNodeController(whole),
    startCloudNodeLifecycleController(whole),
    ...(options.routes === false ? [] : [startRouteController(whole)]),
    startServiceController(whole),
    startVolumeProvisioner(whole),
    startVolumeAttacher(whole),
    startVolumeResizer(whole),
  ];
}
