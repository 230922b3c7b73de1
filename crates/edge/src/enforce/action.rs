//! What an agent is about to do, as far as its enforcer needs to know.

/// One action of an agent. What is `None` isn't part of the action: a model call has no tool, a tool call no model.
///
/// Borrowed throughout, so that describing an action allocates nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Action<'a> {
    /// The tool that is called.
    pub tool: Option<&'a str>,
    /// The model that is called.
    pub model: Option<&'a str>,
    /// The resource that is touched.
    pub resource: Option<&'a str>,
    /// The class of data that is handled.
    pub data_class: Option<&'a str>,
}

impl<'a> Action<'a> {
    /// A call of a tool, and nothing else yet.
    #[must_use]
    pub const fn tool(name: &'a str) -> Self {
        Self { tool: Some(name), model: None, resource: None, data_class: None }
    }

    /// A call of a model, and nothing else yet.
    #[must_use]
    pub const fn model(name: &'a str) -> Self {
        Self { tool: None, model: Some(name), resource: None, data_class: None }
    }

    /// The same action on a resource.
    #[must_use]
    pub const fn on(self, resource: &'a str) -> Self {
        Self { resource: Some(resource), ..self }
    }

    /// The same action with data of a class.
    #[must_use]
    pub const fn with_data(self, class: &'a str) -> Self {
        Self { data_class: Some(class), ..self }
    }

    /// The names, by the place of their list in [`super::policy::LISTS`].
    pub(super) const fn names(&self) -> [Option<&'a str>; 4] {
        [self.tool, self.model, self.resource, self.data_class]
    }
}
