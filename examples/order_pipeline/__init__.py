"""The reference pipeline: a jewellery maker's shop, CRM and MES, instrumented as a customer would do it."""
