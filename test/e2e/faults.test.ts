import { faults } from './faults.steps.ts';

faults();
