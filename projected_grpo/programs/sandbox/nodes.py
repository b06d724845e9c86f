"""LeetCode's linked lists and binary trees: built from lists for a program, and read back as lists.

In a test, {"$list_node": [1, 2]} is the list 1 -> 2, and {"$tree_node": [1, null, 2]} the tree in the order of its levels, in
which an absent child is null and has no children of its own. An empty one is null.
"""

LIST, TREE = "$list_node", "$tree_node"
MOST = 100_000  # nodes that are read; a cycle ends here


class ListNode:
    def __init__(self, val=0, next=None):
        self.val, self.next = val, next


class TreeNode:
    def __init__(self, val=0, left=None, right=None):
        self.val, self.left, self.right = val, left, right


CLASSES = {"ListNode": ListNode, "TreeNode": TreeNode}  # of a task whose set-up code defines none


def build(value, classes):
    """A test's value with its nodes, of the classes that a program sees."""
    if type(value) is list:
        return [build(item, classes) for item in value]
    if type(value) is not dict:
        return value
    if _tagged(value, LIST):
        return _list(value[LIST], classes["ListNode"])
    if _tagged(value, TREE):
        return _tree(value[TREE], classes["TreeNode"])
    return {key: build(item, classes) for key, item in value.items()}


def normal(value):
    """The one way to write a value: what comes back where a program returns it."""
    if type(value) is list:
        return [normal(item) for item in value]
    if type(value) is not dict:
        return value
    if _tagged(value, LIST) or _tagged(value, TREE):
        built = build(value, CLASSES)
        return None if built is None else read(built)
    return {key: normal(item) for key, item in value.items()}


def _tagged(value, tag):
    return value.keys() == {tag} and type(value[tag]) is list


def read(node):
    """The test's form of an object whose type has the name ListNode or TreeNode. Raises ValueError for one without an end."""
    return READERS[type(node).__name__](node)


def _list(values, kind):
    head = None
    for value in reversed(values):
        head = kind(value, head)
    return head


def _tree(values, kind):
    if not values or values[0] is None:
        return None
    root = kind(values[0])
    parents, rest = [root], iter(values[1:])
    for parent in parents:  # grows while it is walked
        for side in ("left", "right"):
            if (value := next(rest, None)) is not None:
                setattr(parent, side, kind(value))
                parents.append(getattr(parent, side))
    return root


def _read_list(node):
    values = []
    while node is not None:
        values.append(node.val)
        node = node.next
        _end_of(values)
    return {LIST: values}


def _read_tree(node):
    values, nodes = [node.val], [node]
    for parent in nodes:  # grows while it is walked
        for child in (parent.left, parent.right):
            values.append(None if child is None else child.val)
            if child is not None:
                nodes.append(child)
        _end_of(nodes)
    while values[-1] is None:
        values.pop()
    return {TREE: values}


def _end_of(values):
    if len(values) > MOST:
        raise ValueError(f"more than {MOST} nodes")


READERS = {"ListNode": _read_list, "TreeNode": _read_tree}
